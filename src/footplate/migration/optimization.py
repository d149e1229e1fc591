"""The first generation's optimization keys, said in the words of the second.

Data in, data out: `optimizer`, `optimizer_config`, `fp16`, `lr_config`, `momentum_config`, `runner`, `total_epochs` and
`total_iters` become `optim_wrapper`, `param_scheduler` and `train_cfg`. What the second generation can say exactly is
said in its own schedules; the rest keeps its words in `PolicyLR` and `PolicyMomentum`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from footplate.errors import ConfigError, nearest, origin_of
from footplate.migration.policies import Length, policy_name, translate_policy

Section = dict[str, Any]

KEYS = (
    "optimizer",
    "optimizer_config",
    "fp16",
    "lr_config",
    "momentum_config",
    "runner",
    "total_epochs",
    "total_iters",
)
"""The keys that this translation reads."""

_RULES = {
    "bias_lr_mult",
    "bias_decay_mult",
    "norm_decay_mult",
    "dwconv_decay_mult",
    "dcn_offset_lr_mult",
    "custom_keys",
    "bypass_duplicate",
}
_AMP_HOOKS = ("Fp16OptimizerHook", "GradientCumulativeFp16OptimizerHook")
_PLAIN_HOOKS = ("OptimizerHook", "GradientCumulativeOptimizerHook", "DistOptimizerHook")
# DistributedDataParallel reduces gradients by itself, in buckets of its own.
_WITHOUT_MEANING = ("distributed", "coalesce", "bucket_size_mb")


@dataclasses.dataclass
class Translation:
    """What a first-generation config's optimization keys became.

    Attributes:
        section: `optim_wrapper`, `param_scheduler`, `train_cfg`, and `custom_hooks` where a policy is the user's own.
        used: The keys that were read.
        notes: What a person should know, a line each.
    """

    section: Section
    used: list[str]
    notes: list[str]


def translate_optimization(cfg: Mapping[str, Any]) -> Translation:
    """Translates the optimization keys of a first-generation config; the others are left alone.

    Args:
        cfg: The config, or a part of it that holds these keys.

    Raises:
        ConfigError: A key cannot be understood.

    Example:
        >>> old = dict(
        ...     optimizer=dict(type="SGD", lr=0.01),
        ...     lr_config=dict(policy="step", step=[8, 11]),
        ...     runner=dict(type="EpochBasedRunner", max_epochs=12),
        ... )
        >>> translate_optimization(old).section["param_scheduler"]
        [{'type': 'MultiStepLR', 'milestones': [8, 11], 'by_epoch': True, 'begin': 0, 'end': 12}]
    """
    notes: list[str] = []
    section: Section = {}
    length = run_length(cfg)
    if cfg.get("optimizer") is not None:
        section["optim_wrapper"] = _optim_wrapper(cfg, notes)
    schedules, hooks = _schedules(cfg, length, notes)
    if "lr_config" in cfg or "momentum_config" in cfg:
        section["param_scheduler"] = schedules
    if hooks:
        section["custom_hooks"] = hooks
    if length.epochs is not None:
        section["train_cfg"] = {"type": "EpochBasedTrainLoop", "max_epochs": length.epochs}
    elif length.iters is not None:
        section["train_cfg"] = {"type": "IterBasedTrainLoop", "max_iters": length.iters}
    return Translation(section, [key for key in KEYS if key in cfg], notes)


def run_length(cfg: Mapping[str, Any]) -> Length:
    """Returns how long a first-generation config trains: so many epochs, or so many iterations.

    Raises:
        ConfigError: `runner` gives neither, or both.
    """
    runner = cfg.get("runner")
    if runner is None:
        return Length(cfg.get("total_epochs"), None if cfg.get("total_epochs") else cfg.get("total_iters"))
    if not isinstance(runner, Mapping):
        raise ConfigError("runner must be a dict", key="runner", found=runner)
    epochs, iters = runner.get("max_epochs"), runner.get("max_iters")
    if (epochs is None) == (iters is None):
        raise ConfigError(
            'runner has one of "max_epochs" and "max_iters"', key="runner", found=dict(runner), origin=origin_of(runner)
        )
    return Length(epochs, iters)


def _schedules(cfg: Mapping[str, Any], length: Length, notes: list[str]) -> tuple[list[Section], list[Section]]:
    """Returns schedules, and hooks for policies that are the user's own."""
    schedules: list[Section] = []
    hooks: list[Section] = []
    for field, stem in (("lr", "Lr"), ("momentum", "Momentum")):
        key = f"{field}_config"
        policy = cfg.get(key)
        if policy is None:
            continue
        if not isinstance(policy, Mapping):
            raise ConfigError(f"{key} must be a dict", key=key, found=policy)
        if policy_name(policy, key) is None:
            own = {name: value for name, value in policy.items() if name != "policy"}
            hook = f"{_titled(policy['policy'])}{stem}UpdaterHook"
            hooks.append({"type": hook, **own, "priority": "VERY_HIGH" if field == "lr" else "HIGH"})
            notes.append(f"{key}: the policy '{policy['policy']}' is kept as the hook {hook}")
        else:
            schedules += translate_policy(policy, length, field)
    return schedules, hooks


def _titled(policy: str) -> str:
    return policy.title() if policy.islower() else policy


def _optim_wrapper(cfg: Mapping[str, Any], notes: list[str]) -> Section:
    optimizer = cfg["optimizer"]
    if not isinstance(optimizer, Mapping):
        raise ConfigError("optimizer must be a dict", key="optimizer", found=optimizer)
    step = _stepping(cfg, notes)
    if "type" in optimizer:
        return {**step, **_one_optimizer(optimizer, notes)}
    return {name: {**step, **_one_optimizer(each, notes)} for name, each in optimizer.items()}


def _one_optimizer(cfg: Mapping[str, Any], notes: list[str]) -> Section:
    optimizer = dict(cfg)
    constructor = optimizer.pop("constructor", None)
    paramwise = optimizer.pop("paramwise_cfg", None)
    options = optimizer.pop("paramwise_options", None)
    section: Section = {"optimizer": optimizer}
    if paramwise is None and options is not None:
        paramwise = options
        if not set(options) <= _RULES:
            constructor = constructor or "PatternOptimWrapperConstructor"
    if constructor in (None, "DefaultOptimizerConstructor"):
        # Only there do the rules of the two generations differ: which biases it means.
        constructor = (
            "DefaultOptimizerConstructor" if paramwise and paramwise.get("bias_decay_mult") is not None else None
        )
    if constructor is not None:
        section["constructor"] = constructor
    if paramwise is not None:
        section["paramwise_cfg"] = dict(paramwise)
    return section


def _stepping(cfg: Mapping[str, Any], notes: list[str]) -> Section:
    """What `optimizer_config` and `fp16` say about a step."""
    hook = dict(cfg.get("optimizer_config") or {})
    kind = hook.pop("type", "OptimizerHook")
    precision = cfg.get("fp16")
    if kind not in (*_AMP_HOOKS, *_PLAIN_HOOKS):
        near = nearest(kind, [*_AMP_HOOKS, *_PLAIN_HOOKS])
        raise ConfigError(
            f"unknown optimizer hook '{kind}'",
            key="optimizer_config.type",
            found=kind,
            suggestion=near,
            origin=origin_of(cfg["optimizer_config"], "type"),
        )
    section: Section = {"type": "OptimWrapper"}
    if hook.pop("use_fp16", False) or precision is not None or kind in _AMP_HOOKS:
        scale = {**hook, **(precision or {})}.get("loss_scale", 512.0)
        section = {"type": "AmpOptimWrapper", "loss_scale": scale, "dtype": "float16"}
    hook.pop("loss_scale", None)
    if (clip := hook.pop("grad_clip", None)) is not None:
        section["clip_grad"] = dict(clip)
    counts = hook.pop("cumulative_iters", hook.pop("update_interval", 1))
    if counts != 1:
        section["accumulative_counts"] = counts
    for key in _WITHOUT_MEANING:
        hook.pop(key, None)
    for key, value in hook.items():
        near = nearest(key, ("grad_clip", "cumulative_iters", "update_interval", "loss_scale", *_WITHOUT_MEANING))
        hint = f"; did you mean '{near}'?" if near else ""
        notes.append(f"optimizer_config.{key}={value!r} has no counterpart and was left out{hint}")
    others = {key: value for key, value in (precision or {}).items() if key not in ("loss_scale", *_WITHOUT_MEANING)}
    notes += [f"fp16.{key}={value!r} has no counterpart and was left out" for key, value in others.items()]
    return section
