"""Translates `lr_config` and `momentum_config` into entries of `param_scheduler`."""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_flag
from footplate.config import ConfigDict
from footplate.errors import ConfigError
from footplate.messages import nearest
from footplate_openmmlab.first_generation.translation.draft import Draft, rule, with_origins

Entry = dict[str, Any]

# A copy of the names in `footplate_openmmlab.first_generation.optim.policies`, which imports torch.
KNOWN_POLICIES = (
    "fixed",
    "step",
    "exp",
    "poly",
    "inv",
    "CosineAnnealing",
    "FlatCosineAnnealing",
    "CosineRestart",
    "cyclic",
    "OneCycle",
    "LinearAnnealing",
    "YOLOX",
    "StepFixCosineAnnealing",
    "CosineAnnealingCooldown",
)
OLD_NAMES = {"type": "policy", "milestones": "step", "step_size": "step", "end": "warmup_iters"}
_BY_ITERATION = ("cyclic", "OneCycle")
WARMUP = ("warmup", "warmup_iters", "warmup_ratio", "warmup_by_epoch")


@rule("lr_config")
def lr_config(draft: Draft) -> None:
    """Replaces a learning rate policy and its warm-up with equivalent schedules, or with `PolicyLR` if none exist.

    A user-defined policy becomes a custom hook.

    ```python
    lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[8, 11])
    ```

    becomes

    ```python
    param_scheduler = [
        dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=501),
        dict(type='MultiStepLR', milestones=[8, 11], by_epoch=True, begin=0, end=12),
    ]
    ```

    in a config with

    ```python
    runner = dict(type='EpochBasedRunner', max_epochs=12)
    ```
    """
    _schedule(draft, "lr")


@rule("momentum_config")
def momentum_config(draft: Draft) -> None:
    """Replaces a momentum policy with `PolicyMomentum`, which is added after the learning rate schedules.

    A user-defined policy becomes a custom hook.

    ```python
    momentum_config = dict(policy='cyclic', target_ratio=(0.85 / 0.95, 1), cyclic_times=1, step_ratio_up=0.4)
    ```

    becomes

    ```python
    param_scheduler = [
        dict(type='PolicyMomentum', policy='cyclic', target_ratio=(0.85 / 0.95, 1), cyclic_times=1, step_ratio_up=0.4,
             by_epoch=False),
    ]
    ```

    in a config with

    ```python
    runner = dict(type='EpochBasedRunner', max_epochs=12)
    ```
    """
    _schedule(draft, "momentum")


def _schedule(draft: Draft, field: str) -> None:
    key = f"{field}_config"
    cfg = draft.take(key)
    if cfg is None:
        return
    made: list[ConfigDict] = []
    if policy_name(cfg, field) is None:  # a user-defined hook implements the policy
        priority = "HIGHEST" if field == "lr" else "HIGH"
        settings = {name: value for name, value in cfg.items() if name != "policy"}
        # In an iteration-based run, MMCV changes this default only for the learning rate.
        by_iter = {"by_epoch": False} if field == "lr" and not draft.by_epoch else {}
        hook = {**by_iter, "type": _hook_of(cfg["policy"], field), **settings, "priority": priority}
        draft.append("custom_hooks", with_origins(hook, cfg, OLD_NAMES))
    else:
        made = [with_origins(entry, cfg, OLD_NAMES) for entry in translate_policy(draft, cfg, field)]
    draft.write("param_scheduler", [*draft.translated.get("param_scheduler", []), *made])


def policy_name(cfg: Mapping[str, Any], field: str) -> str | None:
    """Returns the name of the built-in policy in a config section, or None for a user-defined policy.

    Raises:
        ConfigError: The policy is missing or not a string.
    """
    given, key = cfg.get("policy"), f"{field}_config.policy"
    if not isinstance(given, str):
        raise ConfigError(f"'policy' in {field}_config must be a string", key=key, found=given)
    return known_policy(given)


def _hook_of(policy: str, field: str) -> str:
    """Returns the name of the hook that implements a user-defined policy."""
    stem = "Lr" if field == "lr" else "Momentum"
    return f"{policy.title() if policy.islower() else policy}{stem}UpdaterHook"


def known_policy(name: str) -> str | None:
    """Returns the built-in policy that `name` refers to, or None. Like MMCV, accepts "Step" for "step"."""
    return next((each for each in KNOWN_POLICIES if name in (each, each.title() if each.islower() else each)), None)


def nearest_policy(name: str) -> str | None:
    """Returns the built-in policy that starts with `name` or is similar to it, or None."""
    starting = (policy for policy in KNOWN_POLICIES if policy.lower().startswith(name.lower()))
    return next(starting, nearest(name, KNOWN_POLICIES))


def translate_policy(draft: Draft, cfg: Mapping[str, Any], field: str) -> list[Entry]:
    """Returns the `param_scheduler` entries for an `lr_config` or `momentum_config`.

    Args:
        draft: The draft, which provides the length of the run.
        cfg: The config section, with a built-in policy.
        field: "lr" or "momentum".
    """
    settings = {key: value for key, value in cfg.items() if key != "policy"}
    policy = policy_name(cfg, field)
    # In an iteration-based run, MMCV changes this default only for the learning rate.
    key, default = f"{field}_config.by_epoch", draft.by_epoch or field == "momentum"
    counts_epochs = check_flag("by_epoch", settings.pop("by_epoch", default), key=key)
    by_epoch = counts_epochs and policy not in _BY_ITERATION
    if by_epoch and not draft.by_epoch:
        return []  # the policy changes the value at the start of each epoch, and an iteration-based run has no epochs
    warmup = {key: settings.pop(key) for key in WARMUP if key in settings}
    if warmup.get("warmup") is None:
        warmup = {}
    ratio, iters = warmup.get("warmup_ratio", 0.1), warmup.get("warmup_iters", 0)
    is_linear = warmup.get("warmup") == "linear" and not warmup.get("warmup_by_epoch") and iters > 0 and 0 < ratio <= 1
    main = _native_schedule(draft, str(policy), settings, by_epoch=by_epoch, has_warmup=bool(warmup))
    if field == "lr" and main is not None and (is_linear or not warmup):
        # A schedule reaches its final value at `end - 1`; a first-generation warm-up reaches it at `warmup_iters`.
        ramp = {"type": "LinearLR", "start_factor": ratio, "by_epoch": False, "begin": 0, "end": iters + 1}
        return [ramp, *main] if warmup else main
    if main == [] and not warmup:
        return []
    name = "PolicyLR" if field == "lr" else "PolicyMomentum"
    return [{"type": name, "policy": cfg["policy"], **settings, "by_epoch": by_epoch, **warmup}]


def _native_schedule(
    draft: Draft, policy: str, settings: Entry, *, by_epoch: bool, has_warmup: bool
) -> list[Entry] | None:
    """Returns the second-generation schedules equivalent to a policy, or None if there are no equivalents.

    A warm-up scales the value, so it can only be combined with schedules that multiply the value.
    """
    lowest, ratio = settings.get("min_lr"), settings.get("min_lr_ratio")
    known = settings.keys() - {"min_lr", "min_lr_ratio"}
    ends_at_zero = not lowest and not ratio
    if policy == "fixed" and not settings:
        return []
    if draft.length is None or by_epoch != draft.by_epoch or (has_warmup and not ends_at_zero):
        return None
    span = {"by_epoch": by_epoch, "begin": 0, "end": draft.length}
    if policy == "step" and ends_at_zero and known <= {"step", "gamma"}:
        step = settings.get("step")
        gamma = {"gamma": settings["gamma"]} if "gamma" in settings else {}
        if isinstance(step, int) and step > 0:
            return [{"type": "StepLR", "step_size": step, **gamma, **span}]
        if isinstance(step, (list, tuple)) and list(step) == sorted(step):
            return [{"type": "MultiStepLR", "milestones": list(step), **gamma, **span}] if step else []
    if policy == "CosineAnnealing" and not known and (lowest is None) != (ratio is None):
        minimum = {"eta_min": lowest} if ratio is None else {"eta_min_ratio": ratio}
        return [{"type": "CosineAnnealingLR", "T_max": draft.length, **minimum, **span}]
    if policy == "poly" and known <= {"power"} and ratio is None:
        span["end"] = draft.length + 1  # the final value is reached at `end - 1`
        return [{"type": "PolyLR", "power": settings.get("power", 1.0), "eta_min": lowest or 0, **span}]
    return None
