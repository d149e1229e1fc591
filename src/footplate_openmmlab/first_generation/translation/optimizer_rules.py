"""Translates the optimizer, the optimizer hook and mixed precision."""

from collections.abc import Mapping
from typing import Any

from footplate_openmmlab.first_generation.translation.draft import Draft, rule, with_origins
from footplate_openmmlab.first_generation.translation.schedule_rules import policy_name

STEPPED_BY_HOOK = "SteppedByHook"
STEPPED_BY_MODEL = "SteppedByModel"
_AMP_HOOKS = ("Fp16OptimizerHook", "GradientCumulativeFp16OptimizerHook")
_OPTIMIZER_HOOKS = ("OptimizerHook", "GradientCumulativeOptimizerHook", "DistOptimizerHook", *_AMP_HOOKS)
# Settings for reducing gradients, which DistributedDataParallel does now.
_ALL_REDUCE_KEYS = ("distributed", "coalesce", "bucket_size_mb")
_STEP_KEYS = ("grad_clip", "cumulative_iters", "update_interval", "loss_scale")
_PARAMWISE_KEYS = {
    "bias_lr_mult",
    "bias_decay_mult",
    "norm_decay_mult",
    "dwconv_decay_mult",
    "dcn_offset_lr_mult",
    "custom_keys",
    "bypass_duplicate",
}


@rule("optimizer", "optimizers")
def optimizer(draft: Draft) -> None:
    """Moves the optimizer, its constructor and its parameter-wise settings into `optim_wrapper`.

    ```python
    optimizer = dict(type='SGD', lr=0.01, paramwise_cfg=dict(norm_decay_mult=0.0))
    ```

    becomes

    ```python
    optim_wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.01),
        paramwise_cfg=dict(norm_decay_mult=0.0))
    ```
    """
    cfg = draft.take("optimizer") or draft.take("optimizers")
    if cfg is None:
        return
    if "type" in cfg:
        draft.write("optim_wrapper", with_origins(_wrapper(cfg, draft), cfg))
        return
    draft.write("optim_wrapper", with_origins({name: _wrapper(each, draft) for name, each in cfg.items()}, cfg))
    if draft.original.get("optimizer_config") is None:
        draft.take("optimizer_config")
        _update_wrappers(draft, {"type": STEPPED_BY_MODEL}, "optimizer")


def _wrapper(cfg: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    """Returns the `optim_wrapper` section for an optimizer."""
    optimizer = with_origins(cfg, cfg)
    constructor = optimizer.pop("constructor", None)
    paramwise = optimizer.pop("paramwise_cfg", None)
    options = optimizer.pop("paramwise_options", None)
    if paramwise is None and options is not None:
        paramwise = options
        if not set(options) <= _PARAMWISE_KEYS:
            constructor = constructor or "PatternOptimWrapperConstructor"
    if constructor in (None, "DefaultOptimizerConstructor"):
        # The generations only differ in the biases to which `bias_decay_mult` applies, and in the parameter groups.
        # Groups only matter to a user-defined policy, which may set the rate of each group.
        schedule = draft.original.get("lr_config")
        has_own_policy = schedule is not None and policy_name(schedule, "lr") is None
        constructor = None
        if paramwise and has_own_policy:
            constructor = "DefaultOptimizerConstructor"
        elif paramwise and paramwise.get("bias_decay_mult") is not None:
            constructor = "FirstGenerationOptimWrapperConstructor"
    wrapper = {"optimizer": optimizer, "constructor": constructor, "paramwise_cfg": paramwise}
    return {"type": "OptimWrapper", **{key: value for key, value in wrapper.items() if value is not None}}


@rule("optimizer_config")
def optimizer_config(draft: Draft) -> None:
    """Moves gradient clipping, accumulation and mixed precision into `optim_wrapper`.

    A user-defined hook becomes a custom hook that steps the optimizer.

    ```python
    optimizer_config = dict(
        type='GradientCumulativeOptimizerHook', cumulative_iters=4, grad_clip=dict(max_norm=35, norm_type=2))
    ```

    becomes

    ```python
    optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2), accumulative_counts=4)
    ```
    """
    given = draft.take("optimizer_config")
    if given is None:
        return
    kind = given.pop("type", "OptimizerHook")
    if kind not in _OPTIMIZER_HOOKS:
        _update_wrappers(draft, {"type": STEPPED_BY_HOOK}, "optimizer_config")
        hook = {"type": kind, **given, "priority": "ABOVE_NORMAL"}
        draft.append("custom_hooks", with_origins(hook, draft.original["optimizer_config"]))
        return
    step: dict[str, Any] = {}
    scale = given.pop("loss_scale", 512.0)
    if given.pop("use_fp16", False) or kind in _AMP_HOOKS:
        step = _mixed_precision(draft, scale, "optimizer_config")
    if (clip := given.pop("grad_clip", None)) is not None:
        step["clip_grad"] = dict(clip)
    if (counts := given.pop("cumulative_iters", given.pop("update_interval", 1))) != 1:
        step["accumulative_counts"] = counts
    _update_wrappers(draft, step, "optimizer_config", unused=given)


@rule("fp16")
def fp16(draft: Draft) -> None:
    """Replaces `fp16` with an `AmpOptimWrapper`, unless a user-defined hook steps the optimizer.

    ```python
    fp16 = dict(loss_scale=512.0)
    ```

    becomes

    ```python
    optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0, dtype='float16')
    ```
    """
    given = draft.take("fp16")
    if given is None:
        return
    wrappers = _wrappers(draft).values()
    if not any(each.get("type") == STEPPED_BY_HOOK for each in wrappers):
        scale = next((each["loss_scale"] for each in wrappers if "loss_scale" in each), 512.0)
        step = _mixed_precision(draft, given.pop("loss_scale", scale), "fp16")
        _update_wrappers(draft, step, "fp16", unused=given)
        return
    kind = draft.original["optimizer_config"]["type"]
    if "Fp16" in kind:
        hook = next(each for each in draft.translated["custom_hooks"] if each["type"] == kind)
        hook.update({**given, **hook})
        draft.became("fp16", f"settings of the custom hook {kind}, which calls optimizer.step() itself")
    else:
        draft.ask("fp16", f"{dict(given)} was removed: the hook {kind} calls optimizer.step() and sets the precision")


def _mixed_precision(draft: Draft, scale: Any, source: str) -> dict[str, Any]:
    if draft.device == "cpu":
        draft.warn(source, "float16 needs an accelerator; on this CPU, mixed precision uses bfloat16")
    dtype = "bfloat16" if draft.device == "cpu" else "float16"
    return {"type": "AmpOptimWrapper", "loss_scale": scale, "dtype": dtype}


def _wrappers(draft: Draft) -> dict[str, Mapping[str, Any]]:
    """Returns the settings of each optimizer wrapper, keyed by key path."""
    found = draft.translated.get("optim_wrapper", {})
    if not found or "optimizer" in found or "type" in found:
        return {"optim_wrapper": found}
    return {f"optim_wrapper.{name}": each for name, each in found.items()}


def _update_wrappers(
    draft: Draft, step: Mapping[str, Any], source: str, *, unused: Mapping[str, Any] | None = None
) -> None:
    """Adds settings to each optimizer wrapper, and reports `unused` settings."""
    for key, value in (unused or {}).items():
        if key not in _ALL_REDUCE_KEYS:
            known = (*_STEP_KEYS, *_ALL_REDUCE_KEYS)
            draft.ask(f"{source}.{key}", f"{value!r} has no counterpart and was removed", known=known)
        elif value is not None:
            draft.became(f"{source}.{key}", "removed: DistributedDataParallel reduces the gradients")
    for path in _wrappers(draft):
        draft.write_all(path, step)
