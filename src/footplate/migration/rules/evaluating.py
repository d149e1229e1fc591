"""Translates `evaluation`: when to validate, by which metric, and the best checkpoint."""

from collections.abc import Mapping
from typing import Any

from footplate.config import ConfigDict
from footplate.messages import format_interval, nearest
from footplate.migration.draft import Draft, section
from footplate.migration.rules.record import Rule

METRIC = "LegacyMetric"
_BEST = ("save_best", "rule", "greater_keys", "less_keys")
_HOOK_KEYS = ("interval", "by_epoch", "start", "dynamic_intervals", "out_dir", *_BEST)
_GONE = ("gpu_collect", "tmpdir", "broadcast_bn_buffer", "file_client_args", "efficient_test", "use_ema")
_DEFAULT_INTERVAL = 1


def _evaluation(draft: Draft) -> None:
    """Translates when to validate and what the metric computes."""
    cfg = draft.take("evaluation")
    if cfg is None:
        return
    for key in _GONE:
        if cfg.pop(key, None) is not None:
            draft.became(f"evaluation.{key}", "nothing: no evaluation needs it any more")
    hook = {key: cfg.pop(key) for key in _HOOK_KEYS if key in cfg}
    kind = cfg.pop("type", None)
    if kind not in (None, "EvalHook", "DistEvalHook"):
        draft.ask("evaluation.type", f"'{kind}' is a hook of its own: what it does beside evaluating is not kept")
    if not _has_validation_data(draft):
        words = ", ".join(f"{key}={value!r}" for key, value in {**hook, **cfg}.items())
        draft.became("evaluation", f"nothing: there is no data.val to evaluate on ({words})")
        return
    _timing(draft, hook)
    _metric(draft, cfg)
    _best(draft, hook)


def _has_validation_data(draft: Draft) -> bool:
    data = draft.given.get("data")
    return (isinstance(data, Mapping) and bool(data.get("val"))) or "val_dataloader" in draft.given


def _timing(draft: Draft, hook: dict[str, Any]) -> None:
    interval, start = hook.get("interval", _DEFAULT_INTERVAL), hook.get("start")
    by_epoch = hook.get("by_epoch", draft.by_epoch)
    often = format_interval(interval, "epoch" if by_epoch else "iteration")
    fits = by_epoch == draft.by_epoch and (start is None or (start > 0 and start % interval == 0))
    if not fits:
        _by_hook(draft, hook, interval=interval, by_epoch=by_epoch)
        draft.became("evaluation", f"the hook EvalHook, {often}, which the loop's own counting cannot say")
        return
    draft.write("train_cfg.val_interval", interval, "evaluation")
    if start is not None:
        draft.write("train_cfg.val_begin", start, "evaluation")
    if hook.get("dynamic_intervals"):
        # The loop looks at the epoch that comes, the hook looked at the one that ended.
        shifted = [(mark + 1, each) for mark, each in hook["dynamic_intervals"]]
        draft.write("train_cfg.dynamic_intervals", shifted, "evaluation")
    draft.became("evaluation", f"train_cfg.val_interval: {often}, and once more at the end")


def _by_hook(draft: Draft, hook: dict[str, Any], *, interval: int, by_epoch: bool) -> None:
    if by_epoch and not draft.by_epoch:
        draft.warn("evaluation.by_epoch", "a run by iterations has no epochs to evaluate after: it never evaluates")
    if draft.length is not None:
        draft.write("train_cfg.val_begin", draft.length + 1, "evaluation")
    entry = {"type": "EvalHook", "interval": interval, "by_epoch": by_epoch, "priority": "LOW"}
    entry.update({key: hook[key] for key in ("start", "dynamic_intervals") if hook.get(key) is not None})
    draft.append("custom_hooks", entry, "evaluation")


def _metric(draft: Draft, cfg: ConfigDict) -> None:
    """Translates the remaining keys: arguments of the data set's `evaluate`."""
    for key in cfg:
        near = nearest(key, _HOOK_KEYS) if key not in ("metric", "metrics", "pre_eval") else None
        if near:
            draft.warn(f"evaluation.{key}", "goes to evaluate() of the data set", near=near)
    metric = section({"type": METRIC, **cfg}, cfg)
    for mode, loop in (("val", "ValLoop"), ("test", "TestLoop")):
        if mode == "test" and not _has_test_data(draft):
            continue
        draft.write(f"{mode}_cfg", {"type": loop}, "evaluation")
        draft.write(f"{mode}_evaluator", metric, "evaluation")
    told = ", ".join(f"{key}={value!r}" for key, value in cfg.items())
    draft.became("evaluation", f"val_evaluator: evaluate({told}) of the data set, or the metrics of these names")


def _has_test_data(draft: Draft) -> bool:
    data = draft.given.get("data")
    return isinstance(data, Mapping) and bool(data.get("test"))


def _best(draft: Draft, hook: dict[str, Any]) -> None:
    best = {key: hook[key] for key in _BEST if hook.get(key) is not None}
    if not best.get("save_best"):
        for key in ("rule", "greater_keys", "less_keys", "out_dir"):
            if hook.get(key) is not None:
                draft.became(
                    f"evaluation.{key}", "nothing: it speaks of the best checkpoint, and save_best asks for none"
                )
        return
    hooks = draft.made.get("default_hooks", {})
    if hooks.get("checkpoint", {}) is None:
        del hooks["checkpoint"]
        draft.write_all("default_hooks.checkpoint", {"interval": -1, "save_last": False}, "evaluation")
        draft.write("default_hooks.checkpoint.by_epoch", draft.by_epoch, "evaluation")
    draft.write_all("default_hooks.checkpoint", best, "evaluation")
    if hook.get("out_dir"):
        draft.warn("evaluation.out_dir", "the best checkpoint lies beside the others, in checkpoint_config.out_dir")
    draft.became("evaluation.save_best", f"default_hooks.checkpoint.save_best={best['save_best']!r}")


RULES = (
    Rule(
        "evaluation",
        "The loop validates at the interval; further words go to the data set's evaluate().",
        ("evaluation",),
        _evaluation,
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
    ),
)
