"""Translates `evaluation` and the validation phases of `workflow`."""

from collections.abc import Mapping
from typing import Any

from footplate.errors import ConfigError
from footplate.messages import nearest
from footplate_openmmlab.first_generation.translation.data_rules import METRIC, make_loader
from footplate_openmmlab.first_generation.translation.draft import Draft, rule, with_origins
from footplate_openmmlab.first_generation.translation.key_map import BEST_CHECKPOINT_KEYS, LOADER_KEYS

_HOOK_KEYS = ("interval", "by_epoch", "start", "dynamic_intervals", "out_dir", *BEST_CHECKPOINT_KEYS)
_OBSOLETE_KEYS = ("gpu_collect", "tmpdir", "broadcast_bn_buffer", "file_client_args", "efficient_test", "use_ema")


@rule("workflow")
def workflow(draft: Draft) -> None:
    """Replaces validation phases with a hook that computes losses on `data.val`, loaded with the training pipeline.

    Removes a workflow that only trains. Raises a ConfigError if a validation phase has no `data.val`.

    ```python
    workflow = [('train', 1), ('val', 1)]
    ```

    becomes

    ```python
    custom_hooks = [
        dict(
            type='WorkflowHook',
            workflow=[('train', 1), ('val', 1)],
            dataloader=dict(
                batch_size=2,
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='legacy_collate'),
                dataset=dict(
                    type='LegacyDataset',
                    dataset=dict(
                        type='CocoDataset', ann_file='val.json', pipeline=[dict(type='LoadImageFromFile')]))),
            priority='HIGHEST'),
    ]
    ```

    in a config with

    ```python
    runner = dict(type='EpochBasedRunner', max_epochs=12)
    pipeline = [dict(type='LoadImageFromFile')]
    data = dict(
        samples_per_gpu=2,
        train=dict(type='ConcatDataset', datasets=[dict(type='CocoDataset', pipeline=pipeline)]),
        val=dict(type='CocoDataset', ann_file='val.json'))
    ```
    """
    phases = [(mode, count) for mode, count in draft.take("workflow") or ()]
    if all(mode == "train" for mode, _ in phases):
        return
    data = draft.original.get("data") or {}
    if not data.get("val"):
        raise ConfigError("the workflow has a validation phase, but there is no data.val", key="workflow")
    dataset = {**data["val"]}
    train = data.get("train")
    while isinstance(train, list) or (isinstance(train, Mapping) and "pipeline" not in train):
        # A wrapper, such as RepeatDataset or ConcatDataset, or several datasets.
        train = train.get("dataset", train.get("datasets")) if isinstance(train, Mapping) else next(iter(train), None)
    if isinstance(train, Mapping):
        dataset["pipeline"] = train["pipeline"]
    settings = {**data, **(data.get("val_dataloader") or {})}
    used = {key: settings[key] for key in settings.keys() & LOADER_KEYS.keys() - {"drop_last", "sampler", "collate_fn"}}
    loader = make_loader(draft, {**used, "shuffle": False}, with_origins(dataset, data["val"]), test_mode=False)
    hook = {"type": "WorkflowHook", "workflow": phases, "dataloader": loader, "priority": "HIGHEST"}
    draft.append("custom_hooks", hook)


@rule("evaluation")
def evaluation(draft: Draft) -> None:
    """Translates the validation schedule and `save_best`, and passes other settings to the dataset's `evaluate`.

    ```python
    evaluation = dict(interval=8000, metric='mIoU', pre_eval=True, save_best='mIoU')
    ```

    becomes

    ```python
    train_cfg = dict(val_interval=8000)
    val_cfg = dict(type='ValLoop')
    val_evaluator = dict(type='LegacyMetric', metric='mIoU', pre_eval=True)
    test_cfg = dict(type='TestLoop')
    test_evaluator = dict(type='LegacyMetric', metric='mIoU', pre_eval=True)
    default_hooks = dict(checkpoint=dict(save_best='mIoU'))
    ```

    in a config with

    ```python
    runner = dict(type='IterBasedRunner', max_iters=80000)
    data = dict(val=dict(type='ADE20KDataset'), test=dict(type='ADE20KDataset'))
    ```
    """
    cfg = draft.take("evaluation")
    if cfg is None:
        return
    for key in _OBSOLETE_KEYS:
        if cfg.pop(key, None) is not None:
            draft.became(f"evaluation.{key}", "removed: no longer needed")
    hook = {key: cfg.pop(key) for key in _HOOK_KEYS if key in cfg}
    kind = cfg.pop("type", None)
    if kind not in (None, "EvalHook", "DistEvalHook"):
        draft.ask("evaluation.type", f"'{kind}' is not a built-in hook; only its evaluation settings are kept")
    splits = draft.original.get("data") or {}
    if not splits.get("val") and "val_dataloader" not in draft.original:
        settings = ", ".join(f"{key}={value!r}" for key, value in {**hook, **cfg}.items())
        draft.became("evaluation", f"removed: there is no data.val to evaluate on ({settings or 'no settings'})")
        return
    _translate_hook(draft, hook)
    for key in cfg:
        if key not in ("metric", "metrics", "pre_eval") and nearest(key, _HOOK_KEYS):
            draft.warn(f"evaluation.{key}", "passed to the dataset's evaluate()", known=_HOOK_KEYS)
    metric = with_origins({"type": METRIC, **cfg}, cfg)
    for mode in ("val", "test") if splits.get("test") else ("val",):
        draft.write(f"{mode}_cfg", {"type": f"{mode.title()}Loop"})
        # A dict with a key `metrics` would be the config of an evaluator.
        draft.write(f"{mode}_evaluator", [metric] if "metrics" in cfg else metric)


def _translate_hook(draft: Draft, hook: Mapping[str, Any]) -> None:
    """Translates the settings that schedule validation and select the best checkpoint."""
    interval, start = hook.get("interval", 1), hook.get("start")
    by_epoch, dynamic = hook.get("by_epoch", draft.by_epoch), hook.get("dynamic_intervals")
    if by_epoch == draft.by_epoch and (start is None or (start > 0 and start % interval == 0)):
        # The loop compares milestones with the number of the next epoch, EvalHook with the number of the last epoch.
        milestones = [(mark + 1, each) for mark, each in dynamic or ()]
        loop = {"val_interval": interval, "val_begin": start, "dynamic_intervals": milestones or None}
        draft.write_all("train_cfg", {key: each for key, each in loop.items() if each is not None})
    else:  # the loop does not support this schedule
        if by_epoch and not draft.by_epoch:
            draft.warn(
                "evaluation.by_epoch", "an iteration-based run has no epochs, so no validation runs during training"
            )
        if draft.length is not None:
            draft.write("train_cfg.val_begin", draft.length + 1)
        entry = {"type": "EvalHook", "interval": interval, "by_epoch": by_epoch, "priority": "LOW"}
        entry.update({key: hook[key] for key in ("start", "dynamic_intervals") if hook.get(key) is not None})
        draft.append("custom_hooks", entry)
    best = {key: hook[key] for key in BEST_CHECKPOINT_KEYS if hook.get(key) is not None}
    if not best.get("save_best"):
        for key in (*best, "out_dir"):
            if hook.get(key) is not None:
                draft.became(f"evaluation.{key}", "removed: save_best is not set")
        return
    hooks = draft.translated.get("default_hooks", {})
    regular = hooks.get("checkpoint", {})
    unit = by_epoch and draft.by_epoch  # the name of a best checkpoint contains the epoch or the iteration
    alone = {"interval": -1, "save_last": False, "by_epoch": unit, **best}
    if regular is None:  # checkpoint_config = None disables regular checkpoints
        del hooks["checkpoint"]
        draft.write_all("default_hooks.checkpoint", alone)
    elif regular.get("by_epoch", draft.by_epoch) == unit:
        draft.write_all("default_hooks.checkpoint", best)
    else:
        draft.append("custom_hooks", {"type": "CheckpointHook", **alone})
    if hook.get("out_dir"):
        draft.warn("evaluation.out_dir", "ignored; the best checkpoint is saved in the same folder as the others")
