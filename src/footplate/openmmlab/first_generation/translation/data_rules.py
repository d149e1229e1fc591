"""Translates datasets, dataloaders, `workflow` and `evaluation`."""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_flag
from footplate.config import ConfigDict
from footplate.errors import ConfigError
from footplate.messages import format_interval, nearest
from footplate.openmmlab.first_generation.translation.draft import Draft, rule, with_origins
from footplate.openmmlab.first_generation.translation.key_map import BEST_CHECKPOINT_KEYS, LOADER_KEYS, SPLITS

_LOADERS = tuple(f"{split}_dataloader" for split in SPLITS)
_SIZES = ("samples_per_gpu", "imgs_per_gpu", "videos_per_gpu")
_TRAIN_ONLY_KEYS = ("drop_last", "class_aware_sampler")
_SAMPLER_KEYS = ("shuffle", "class_aware_sampler", "round_up", "seed")
# Code bases that validate with the batch size of training. Others use 1 by default, because images differ in size.
_BATCHED_VALIDATION = ("mmcls", "mmselfsup")
# Settings that the launcher determines.
_LAUNCHER_KEYS = ("dist", "num_gpus")
_KNOWN = (*SPLITS, *_LOADERS, *LOADER_KEYS, *_SAMPLER_KEYS, *_LAUNCHER_KEYS)


@rule(
    "data",
    "persistent_workers",
    given="""
runner = dict(type='IterBasedRunner', max_iters=80000)
evaluation = dict(interval=8000, metric='mIoU')
""",
    before="""
data = dict(
    samples_per_gpu=4,
    workers_per_gpu=2,
    train=dict(type='ADE20KDataset', split='train'),
    val=dict(type='ADE20KDataset', split='val'))
""",
    after="""
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='legacy_collate'),
    dataset=dict(type='LegacyDataset', dataset=dict(type='ADE20KDataset', split='train')))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='legacy_collate'),
    dataset=dict(type='LegacyDataset', dataset=dict(type='ADE20KDataset', split='val'), test_mode=True))
""",
)
def data(draft: Draft) -> None:
    """Replaces each split with a dataloader. Its dataset is wrapped in an adapter and otherwise unchanged."""
    data = draft.take("data")
    if data is None:
        return
    if not isinstance(data, ConfigDict):
        raise ConfigError("'data' must be a dict", key="data", found=data, origin=draft.origin("data"))
    common = {key: value for key, value in data.items() if key in LOADER_KEYS or key in _SAMPLER_KEYS}
    if draft.remaining.get("persistent_workers") is not None:
        check_flag("persistent_workers", draft.remaining["persistent_workers"])
        common["persistent_workers"] = draft.take("persistent_workers")
        draft.became("persistent_workers", "persistent_workers of each loader")
    complete = [split for split in SPLITS if data.get(split) and _translate_split(draft, data, split, common)]
    for key, value in data.items():
        is_loader_left = key in _LOADERS and key.removesuffix("_dataloader") not in complete
        if key not in _KNOWN and isinstance(value, Mapping) and "type" in value:
            draft.write(f"{key}_dataset", value, "data")
            near = nearest(key, _KNOWN)  # most often a user-defined name, so this is no `near` of the note
            hint = f"; did you mean '{near}'?" if near else ""
            draft.ask(f"data.{key}", f"kept as {key}_dataset; check that your code reads it{hint}")
        elif key in _LAUNCHER_KEYS:
            draft.became(f"data.{key}", "removed: torchrun decides this")
        elif key not in _KNOWN or key == "seed" or is_loader_left or (not complete and key not in SPLITS):
            _keep(draft, "", {key: value})
        elif key in (*_SIZES, *_TRAIN_ONLY_KEYS) and "train" not in complete:
            draft.became(f"data.{key}", "removed: it only affects training, and there is no data.train")
    if not data:
        draft.became("data", "removed: it is empty")


def _translate_split(draft: Draft, data: ConfigDict, split: str, common: Mapping[str, Any]) -> bool:
    """Writes the dataloader of a split. Returns whether all settings of the split were translated."""
    name, has_evaluation = f"{split}_dataloader", draft.original.get("evaluation") is not None
    own = data.get(name) or {}
    if split == "val" and not has_evaluation:
        if any(mode == "val" for mode, _ in draft.original.get("workflow") or ()):
            # WorkflowHook has the other settings.
            _keep(draft, name, {key: own[key] for key in own if key not in LOADER_KEYS or key == "drop_last"})
            return True
        draft.write("val_dataset", data[split], "data")
        draft.ask("data.val", "there is no evaluation section; kept as val_dataset, which is not read")
        return False
    settings = {**common, **own}
    if split != "train":
        sizes = [each.get("samples_per_gpu", 1) for each in _as_list(data[split]) if isinstance(each, Mapping)]
        size = max(sizes, default=1) or 1
        if draft.original.get("default_scope") in _BATCHED_VALIDATION:
            size = next((common[key] for key in _SIZES if key in common), size)
        kept = {key: value for key, value in common.items() if key not in (*_SIZES, *_TRAIN_ONLY_KEYS)}
        settings = {**kept, "samples_per_gpu": size, "shuffle": False, **own}
    elif not set(_SIZES) & settings.keys():
        settings["samples_per_gpu"] = 2
        draft.ask(
            "data.samples_per_gpu", "is missing; 2 is used, but the original code base may have a different default"
        )
    _keep(draft, name, {key: own[key] for key in own if key not in LOADER_KEYS and key not in _SAMPLER_KEYS})
    loader = _loader(draft, settings, data[split], test_mode=split != "train")
    old_names = {new: old for old, new in LOADER_KEYS.items() if old in data}
    draft.write(name, with_origins(loader, data, {**old_names, "dataset": split}), "data")
    if split == "test" and not has_evaluation:
        draft.write("test_cfg", {"type": "TestLoop"}, "data")
        draft.write("test_evaluator", {"type": METRIC}, "data")
    draft.became(f"data.{split}", f"{name}.dataset, wrapped in LegacyDataset")
    return True


def _loader(draft: Draft, settings: Mapping[str, Any], cfg: Any, *, test_mode: bool) -> dict[str, Any]:
    """Returns a dataloader with its sampler. One or several datasets are wrapped in an adapter."""
    shuffle = check_flag("shuffle", settings.get("shuffle", True), key="data.shuffle")
    if settings.get("class_aware_sampler"):
        sampler = {"type": "ClassAwareSampler", **settings["class_aware_sampler"]}
    elif not draft.by_epoch and shuffle:
        sampler = {"type": "InfiniteSampler", "shuffle": shuffle}
    else:
        rounded = {"round_up": settings["round_up"]} if "round_up" in settings else {}
        sampler = {"type": "DefaultSampler", "shuffle": shuffle, **rounded}
    made = [  # batch sizes belong to the loader
        with_origins({key: value for key, value in each.items() if key != "samples_per_gpu"}, each)
        if isinstance(each, Mapping) and "samples_per_gpu" in each
        else each
        for each in _as_list(cfg)
    ]
    dataset = {"type": "ConcatDataset", "datasets": made} if isinstance(cfg, (list, tuple)) else made[0]
    adapter = {"type": "LegacyDataset", "dataset": dataset, **({"test_mode": True} if test_mode else {})}
    loader = {new: settings[old] for old, new in LOADER_KEYS.items() if settings.get(old) is not None}
    loader.setdefault("sampler", sampler)
    loader.setdefault("collate_fn", {"type": "legacy_collate"})
    return {**loader, "dataset": ConfigDict(adapter)}


def _as_list(cfg: Any) -> list[Any]:
    return list(cfg) if isinstance(cfg, (list, tuple)) else [cfg]


def _keep(draft: Draft, loader: str, settings: Mapping[str, Any]) -> None:
    """Keeps settings of `data`, or of one of its loaders, that have no counterpart."""
    for name, value in settings.items():
        key = f"{loader}.{name}" if loader else name
        draft.write(f"data_settings.{key}", value, "data")
        near = nearest(name, _KNOWN) if name not in _KNOWN else None
        draft.ask(f"data.{key}", f"has no counterpart; kept as data_settings.{key}, which is not read", near=near)


@rule(
    "workflow",
    given="""
runner = dict(type='EpochBasedRunner', max_epochs=12)
data = dict(samples_per_gpu=2, val=dict(type='CocoDataset', ann_file='val.json'))
""",
    before="workflow = [('train', 1), ('val', 1)]",
    after="""
custom_hooks = [
    dict(
        type='WorkflowHook',
        workflow=[('train', 1), ('val', 1)],
        dataloader=dict(
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='legacy_collate'),
            dataset=dict(type='LegacyDataset', dataset=dict(type='CocoDataset', ann_file='val.json'))),
        priority='HIGHEST'),
]
""",
)
def workflow(draft: Draft) -> None:
    """Replaces a validation phase with a hook that computes losses. A training phase needs no setting."""
    phases: list[tuple[str, int]] = []
    origin = draft.origin("workflow")
    for index, phase in enumerate(draft.take("workflow") or [("train", 1)]):
        is_pair = isinstance(phase, (list, tuple)) and len(phase) == 2 and phase[0] in ("train", "val")
        if not is_pair or isinstance(phase[1], bool) or not isinstance(phase[1], int) or phase[1] < 1:
            raise ConfigError(
                "a workflow phase must be ('train', n) or ('val', n)",
                key=f"workflow[{index}]",
                found=phase,
                origin=origin,
            )
        phases.append((phase[0], phase[1]))
    modes = {mode for mode, _ in phases}
    if "train" not in modes:
        found = draft.original["workflow"]
        raise ConfigError("the workflow has no training phase", key="workflow", found=found, origin=origin)
    if "val" not in modes:
        draft.became("workflow", "removed: training is the default")
        return
    data = draft.original.get("data") or {}
    if not data.get("val"):
        raise ConfigError(
            "the workflow has a validation phase, but there is no data.val", key="workflow", origin=origin
        )
    dataset = {**data["val"]}
    if isinstance(data.get("train"), Mapping) and "pipeline" in data["train"]:
        dataset["pipeline"] = data["train"]["pipeline"]
    settings = {**data, **(data.get("val_dataloader") or {})}
    used = {key: settings[key] for key in settings.keys() & LOADER_KEYS.keys() - {"drop_last", "sampler", "collate_fn"}}
    loader = _loader(draft, {**used, "shuffle": False}, with_origins(dataset, data["val"]), test_mode=False)
    hook = {"type": "WorkflowHook", "workflow": phases, "dataloader": loader, "priority": "HIGHEST"}
    draft.append("custom_hooks", hook, "workflow")
    unit = "epochs" if draft.by_epoch else "iterations"
    draft.became("workflow", f"the hook WorkflowHook computes losses on data.val; phases are counted in {unit}")


METRIC = "LegacyMetric"
_HOOK_KEYS = ("interval", "by_epoch", "start", "dynamic_intervals", "out_dir", *BEST_CHECKPOINT_KEYS)
_OBSOLETE_KEYS = ("gpu_collect", "tmpdir", "broadcast_bn_buffer", "file_client_args", "efficient_test", "use_ema")


@rule(
    "evaluation",
    given="""
runner = dict(type='IterBasedRunner', max_iters=80000)
data = dict(val=dict(type='ADE20KDataset'), test=dict(type='ADE20KDataset'))
""",
    before="evaluation = dict(interval=8000, metric='mIoU', pre_eval=True, save_best='mIoU')",
    after="""
train_cfg = dict(val_interval=8000)
val_cfg = dict(type='ValLoop')
val_evaluator = dict(type='LegacyMetric', metric='mIoU', pre_eval=True)
test_cfg = dict(type='TestLoop')
test_evaluator = dict(type='LegacyMetric', metric='mIoU', pre_eval=True)
default_hooks = dict(checkpoint=dict(save_best='mIoU'))
""",
)
def evaluation(draft: Draft) -> None:
    """Sets the validation interval of the training loop. Other settings are passed to the dataset's evaluate()."""
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
    data = draft.original.get("data")
    splits = data if isinstance(data, Mapping) else {}
    if not splits.get("val") and "val_dataloader" not in draft.original:
        settings = ", ".join(f"{key}={value!r}" for key, value in {**hook, **cfg}.items())
        draft.became("evaluation", f"removed: there is no data.val to evaluate on ({settings})")
        return
    _translate_hook(draft, hook)
    for key in cfg:
        near = nearest(key, _HOOK_KEYS) if key not in ("metric", "metrics", "pre_eval") else None
        if near:
            draft.warn(f"evaluation.{key}", "passed to the dataset's evaluate()", near=near)
    metric = with_origins({"type": METRIC, **cfg}, cfg)
    for mode in ("val", "test") if splits.get("test") else ("val",):
        draft.write(f"{mode}_cfg", {"type": f"{mode.title()}Loop"}, "evaluation")
        draft.write(f"{mode}_evaluator", metric, "evaluation")
    arguments = ", ".join(f"{key}={value!r}" for key, value in cfg.items())
    draft.became("evaluation", f"val_evaluator: evaluate({arguments}) of the dataset, or metrics of these names")


def _translate_hook(draft: Draft, hook: Mapping[str, Any]) -> None:
    """Translates the schedule of the validation and the selection of the best checkpoint."""
    interval, start = hook.get("interval", 1), hook.get("start")
    by_epoch, dynamic = hook.get("by_epoch", draft.by_epoch), hook.get("dynamic_intervals")
    often = format_interval(interval, "epoch" if by_epoch else "iteration")
    if by_epoch == draft.by_epoch and (start is None or (start > 0 and start % interval == 0)):
        # The loop compares milestones with the number of the next epoch, EvalHook with that of the last one.
        milestones = [(mark + 1, each) for mark, each in dynamic or ()]
        loop = {"val_interval": interval, "val_begin": start, "dynamic_intervals": milestones or None}
        draft.write_all("train_cfg", {key: each for key, each in loop.items() if each is not None}, "evaluation")
        draft.became("evaluation", f"train_cfg.val_interval: {often}, and at the end of training")
    else:  # the loop cannot express this schedule
        if by_epoch and not draft.by_epoch:
            draft.warn("evaluation.by_epoch", "an iteration-based run has no epochs, so it never evaluates")
        if draft.length is not None:
            draft.write("train_cfg.val_begin", draft.length + 1, "evaluation")
        entry = {"type": "EvalHook", "interval": interval, "by_epoch": by_epoch, "priority": "LOW"}
        entry.update({key: hook[key] for key in ("start", "dynamic_intervals") if hook.get(key) is not None})
        draft.append("custom_hooks", entry, "evaluation")
        draft.became("evaluation", f"the hook EvalHook, {often}; the training loop cannot express this schedule")
    best = {key: hook[key] for key in BEST_CHECKPOINT_KEYS if hook.get(key) is not None}
    if not best.get("save_best"):
        for key in ("rule", "greater_keys", "less_keys", "out_dir"):
            if hook.get(key) is not None:
                draft.became(f"evaluation.{key}", "removed: save_best is not set")
        return
    hooks = draft.translated.get("default_hooks", {})
    if hooks.get("checkpoint", {}) is None:  # checkpoint_config = None: no checkpoints at intervals
        del hooks["checkpoint"]
        never = {"interval": -1, "save_last": False, "by_epoch": draft.by_epoch}
        draft.write_all("default_hooks.checkpoint", never, "evaluation")
    draft.write_all("default_hooks.checkpoint", best, "evaluation")
    if hook.get("out_dir"):
        draft.warn("evaluation.out_dir", "the best checkpoint is saved with the others, in checkpoint_config.out_dir")
    draft.became("evaluation.save_best", f"default_hooks.checkpoint.save_best={best['save_best']!r}")
