"""Optimizer, step, schedules and the length of the run."""

import difflib
import string
from collections.abc import Callable, Mapping
from typing import Any

from footplate.config import ConfigDict
from footplate.errors import ConfigError, nearest
from footplate.migration.draft import Draft, section
from footplate.migration.optimization import translate_optimization
from footplate.migration.rules.record import Rule

STEPPED_BY_HOOK = "SteppedByHook"
STEPPED_BY_MODEL = "SteppedByModel"
_OPTIMIZER_HOOKS = (
    "OptimizerHook",
    "Fp16OptimizerHook",
    "GradientCumulativeOptimizerHook",
    "GradientCumulativeFp16OptimizerHook",
    "DistOptimizerHook",
)
_REDUCING = ("distributed", "coalesce", "bucket_size_mb")
_SLIP = 0.9
_KEY_LETTERS = "._" + string.ascii_letters + string.digits
_LENGTH = ("runner", "total_epochs", "total_iters")
_LOOPS = {True: ("EpochBasedTrainLoop", "max_epochs"), False: ("IterBasedTrainLoop", "max_iters")}
_RUNNERS = ("EpochBasedRunner", "IterBasedRunner", "Runner")


def _optimizer(draft: Draft) -> None:
    """Wraps the optimizer, or each of several."""
    source = "optimizer" if draft.rest.get("optimizer") is not None else "optimizers"
    cfg = draft.take(source)
    if cfg is None:
        draft.take("optimizer")
        return
    found = translate_optimization({"optimizer": cfg}).section["optim_wrapper"]
    for wrapper in _wrappers(found):
        wrapper["optimizer"] = section(wrapper["optimizer"], cfg)
    draft.write("optim_wrapper", section(found, cfg), source)
    draft.became(source, "optim_wrapper" + (".optimizer" if "optimizer" in found else ", one for each optimizer"))
    if "optimizer" not in found and draft.given.get("optimizer_config") is None:
        draft.take("optimizer_config")
        _update_wrappers(draft, {"type": STEPPED_BY_MODEL}, source)
        draft.became("optimizer_config", "nothing: the model steps its optimizers by itself")


def _step(draft: Draft) -> None:
    """Says how a step is made: clipping, accumulation, precision."""
    given = draft.take("optimizer_config")
    if given is None:
        return
    kind = given.get("type", "OptimizerHook")
    if kind not in _OPTIMIZER_HOOKS:
        _own_optimizer_hook(draft, given, kind)
        return
    step = _step_settings(draft, {"optimizer_config": given}, "optimizer_config")
    _update_wrappers(draft, step, "optimizer_config")
    draft.became("optimizer_config", _told("optim_wrapper", step) if step else "what an OptimWrapper does anyway")


def _own_optimizer_hook(draft: Draft, given: ConfigDict, kind: str) -> None:
    near = nearest(kind, _OPTIMIZER_HOOKS)
    if near is not None and _is_slip(kind, near) and not (draft.knows_hook and draft.knows_hook(kind)):
        raise ConfigError(
            f"unknown optimizer hook '{kind}'",
            key="optimizer_config.type",
            found=kind,
            suggestion=near,
            origin=draft.origin("optimizer_config.type"),
        )
    _update_wrappers(draft, {"type": STEPPED_BY_HOOK}, "optimizer_config")
    draft.append("custom_hooks", section({**given, "priority": "ABOVE_NORMAL"}, given), "optimizer_config")
    draft.became("optimizer_config", f"the hook {kind}, which makes the steps by itself")


def _is_slip(kind: str, near: str) -> bool:
    """Tells a misspelt name from one of its own, such as SiameseRPNOptimizerHook."""
    return difflib.SequenceMatcher(None, kind.casefold(), near.casefold()).ratio() > _SLIP


def _precision(draft: Draft) -> None:
    """Trains in mixed precision."""
    given = draft.take("fp16")
    if given is None:
        return
    if any(each.get("type") == STEPPED_BY_HOOK for each in _wrappers(draft.made.get("optim_wrapper", {}))):
        _precision_of_hook(draft, given)
        return
    step = _step_settings(draft, {"fp16": given}, "fp16")
    _update_wrappers(draft, step, "fp16")
    draft.became("fp16", _told("optim_wrapper", step))


def _precision_of_hook(draft: Draft, given: ConfigDict) -> None:
    """Leaves mixed precision to a hook that makes the steps by itself."""
    kind = draft.given["optimizer_config"]["type"]
    if "Fp16" not in kind:
        draft.ask("fp16", f"{dict(given)} is left out: the hook {kind} makes the steps, and precision is its affair")
        return
    hook = next(each for each in draft.made["custom_hooks"] if each["type"] == kind)
    hook.update({key: value for key, value in given.items() if key not in hook})
    draft.became("fp16", f"settings of the hook {kind}, which makes the steps by itself")


def _step_settings(draft: Draft, keys: Mapping[str, Any], source: str) -> dict[str, Any]:
    found = translate_optimization({"optimizer": {"type": "SGD"}, **keys})
    for note in found.notes:
        key = note[: len(note) - len(note.lstrip(_KEY_LETTERS))]
        draft.ask(key, note[len(key) :].lstrip("= "))
    for key in _REDUCING:
        if keys[source].get(key) is not None:
            draft.became(f"{source}.{key}", "nothing: gradients are reduced in the model's own wrapper")
    made = found.section["optim_wrapper"]
    step = {key: value for key, value in made.items() if key not in ("optimizer", "type")}
    if made["type"] != "OptimWrapper":
        step = {"type": made["type"], **step}
    if draft.device == "cpu" and step.get("dtype") == "float16":
        step["dtype"] = "bfloat16"
        draft.warn(source, "mixed precision in float16 is for accelerators: on this CPU it is bfloat16")
    return step


def _wrappers(found: Mapping[str, Any]) -> list[Any]:
    if "optimizer" in found or "type" in found:
        return [found]
    return list(found.values())


def _update_wrappers(draft: Draft, step: Mapping[str, Any], source: str) -> None:
    wrapper = draft.made.get("optim_wrapper", {})
    names = [""] if "optimizer" in wrapper or "type" in wrapper or not wrapper else [f".{name}" for name in wrapper]
    for name in names:
        draft.write_all(f"optim_wrapper{name}", step, source)


def _schedule(key: str) -> Callable[[Draft], None]:
    def apply(draft: Draft) -> None:
        cfg = draft.take(key)
        schedules = draft.made.get("param_scheduler", [])
        if cfg is None:
            return
        found = translate_optimization(
            {key: cfg, **{name: draft.given[name] for name in _LENGTH if name in draft.given}}
        )
        made = [section(each, cfg) for each in found.section["param_scheduler"]]
        for hook in found.section.get("custom_hooks", []):
            # A run by iterations sets this for learning rates alone.
            own = hook if draft.by_epoch or key != "lr_config" else {"by_epoch": False, **hook}
            draft.append("custom_hooks", section(own, cfg, {"type": "policy"}), key)
        draft.write("param_scheduler", [*schedules, *made], key)
        names = [each["type"] for each in (*made, *found.section.get("custom_hooks", []))]
        draft.became(key, f"{cfg.get('policy')}: {', '.join(names) or 'no schedule: the value stays'}")

    return apply


def _length(draft: Draft) -> None:
    """Says in the training loop how long the run is."""
    runner = draft.take("runner")
    totals = {key: draft.take(key) for key in ("total_epochs", "total_iters") if key in draft.rest}
    totals = {key: value for key, value in totals.items() if value is not None}
    source = "runner" if runner is not None else next(iter(totals), "runner")
    settings: dict[str, Any] = dict(runner or {})
    kind = settings.pop("type", None)
    for key in ("max_epochs", "max_iters"):
        settings.pop(key, None)
    loop, word = _LOOPS[draft.by_epoch]
    draft.write("train_cfg.type", loop, source)
    if draft.length is not None:
        draft.write(f"train_cfg.{word}", draft.length, source)
    draft.became(source, f"train_cfg: {loop}" + (f", {word}={draft.length}" if draft.length is not None else ""))
    _check_runner(draft, kind, settings)
    for key, value in totals.items():
        if key == source:
            continue
        if value == draft.length:
            draft.became(key, f"nothing: {source} says it already")
        else:
            draft.warn(key, f"{value} contradicts {source}, which counts: {draft.length}")


def _check_runner(draft: Draft, kind: str | None, settings: Mapping[str, Any]) -> None:
    if kind is not None and kind not in _RUNNERS:
        near = nearest(kind, _RUNNERS)
        hint = f"; did you mean '{near}'?" if near else ""
        draft.ask("runner.type", f"'{kind}' is a runner of its own: what it does beside counting is not kept{hint}")
    for key, value in settings.items():
        draft.warn(f"runner.{key}", f"{value!r} has no counterpart")


def _told(above: str, values: Mapping[str, Any]) -> str:
    return ", ".join(f"{above}.{key}={value!r}" for key, value in values.items())


RULES = (
    Rule(
        "optimizer",
        "The optimizer goes into a wrapper, with its constructor and its settings per parameter.",
        ("optimizer", "optimizers"),
        _optimizer,
        before="optimizer = dict(type='SGD', lr=0.01, paramwise_cfg=dict(norm_decay_mult=0.0))",
        after="""
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0))
""",
    ),
    Rule(
        "optimizer-config",
        "The optimizer hook's settings become the wrapper's: clipping, accumulation.",
        ("optimizer_config",),
        _step,
        before="""
optimizer_config = dict(
    type='GradientCumulativeOptimizerHook', cumulative_iters=4, grad_clip=dict(max_norm=35, norm_type=2))
""",
        after="optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2), accumulative_counts=4)",
    ),
    Rule(
        "fp16",
        "Mixed precision is the wrapper's own type.",
        ("fp16",),
        _precision,
        before="fp16 = dict(loss_scale=512.0)",
        after="optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0, dtype='float16')",
    ),
    Rule(
        "lr-config",
        "A policy becomes schedules, its warm-up one of them; a policy without a counterpart keeps its words.",
        ("lr_config",),
        _schedule("lr_config"),
        given="runner = dict(type='EpochBasedRunner', max_epochs=12)",
        before="lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[8, 11])",
        after="""
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', milestones=[8, 11], by_epoch=True, begin=0, end=12),
]
""",
    ),
    Rule(
        "momentum-config",
        "A policy of the momentum becomes a schedule behind those of the learning rate.",
        ("momentum_config",),
        _schedule("momentum_config"),
        given="runner = dict(type='EpochBasedRunner', max_epochs=12)",
        before="""
momentum_config = dict(policy='cyclic', target_ratio=(0.85 / 0.95, 1), cyclic_times=1, step_ratio_up=0.4)
""",
        after="""
param_scheduler = [
    dict(type='PolicyMomentum', policy='cyclic', target_ratio=(0.85 / 0.95, 1), cyclic_times=1, step_ratio_up=0.4,
         by_epoch=False),
]
""",
    ),
    Rule(
        "runner",
        "The runner's kind and length are those of the training loop.",
        _LENGTH,
        _length,
        before="runner = dict(type='IterBasedRunner', max_iters=80000)",
        after="train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000)",
    ),
)
