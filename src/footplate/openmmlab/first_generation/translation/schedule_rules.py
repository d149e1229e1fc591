"""Translates `lr_config` and `momentum_config` into entries of `param_scheduler`."""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_flag
from footplate.config import ConfigDict
from footplate.errors import ConfigError
from footplate.messages import nearest
from footplate.openmmlab.first_generation.translation.draft import Draft, rule, with_origins

Entry = dict[str, Any]

# A copy of the names in `footplate.openmmlab.first_generation.optim.policies`, which imports torch.
KNOWN_POLICIES = (
    *("fixed", "step", "exp", "poly", "inv", "CosineAnnealing", "FlatCosineAnnealing", "CosineRestart", "cyclic"),
    *("OneCycle", "LinearAnnealing", "YOLOX", "StepFixCosineAnnealing", "CosineAnnealingCooldown"),
)
_BY_ITERATION = ("cyclic", "OneCycle")
_WARMUP = ("warmup", "warmup_iters", "warmup_ratio", "warmup_by_epoch")
# Maps the kinds of warm-up to equivalent schedules and the arguments for the initial factor.
_WARMUP_FACTORS: dict[Any, tuple[str | None, str]] = {
    "linear": ("LinearLR", "start_factor"),
    "constant": ("ConstantLR", "factor"),
}


@rule(
    "lr_config",
    given="runner = dict(type='EpochBasedRunner', max_epochs=12)",
    before="lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[8, 11])",
    after="""
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', milestones=[8, 11], by_epoch=True, begin=0, end=12),
]
""",
)
def lr_config(draft: Draft) -> None:
    """Replaces a learning rate policy and its warm-up with schedules, or with `PolicyLR` if there is no counterpart."""
    _schedule(draft, "lr")


@rule(
    "momentum_config",
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
)
def momentum_config(draft: Draft) -> None:
    """Replaces a momentum policy with momentum schedules that follow the learning rate schedules."""
    _schedule(draft, "momentum")


def _schedule(draft: Draft, field: str) -> None:
    key = f"{field}_config"
    cfg = draft.take(key)
    if cfg is None:
        return
    made: list[ConfigDict] = []
    if policy_name(cfg, key) is None:  # a hook implements the policy
        policy, stem, priority = (cfg["policy"], *(("Lr", "VERY_HIGH") if field == "lr" else ("Momentum", "HIGH")))
        name = f"{policy.title() if policy.islower() else policy}{stem}UpdaterHook"
        settings = {name: value for name, value in cfg.items() if name != "policy"}
        # In an iteration-based run, MMCV changes this default for the learning rate only.
        by_iter = {"by_epoch": False} if field == "lr" and not draft.by_epoch else {}
        hook = {**by_iter, "type": name, **settings, "priority": priority}
        draft.append("custom_hooks", with_origins(hook, cfg, {"type": "policy"}))
    else:
        draft.check_runner()
        made = [with_origins(entry, cfg) for entry in translate_policy(draft, cfg, field)]
    draft.write("param_scheduler", [*draft.translated.get("param_scheduler", []), *made])


def policy_name(cfg: Mapping[str, Any], key: str) -> str | None:
    """Returns the built-in policy of the section `key`, or None for a user-defined policy.

    Raises:
        ConfigError: The policy is missing, or its name looks like a misspelled built-in policy.
    """
    given = cfg.get("policy")
    if not isinstance(given, str):
        raise ConfigError(f'{key} has no "policy"', key=f"{key}.policy")
    for known in KNOWN_POLICIES:
        # MMCV also accepts lowercase names with an initial capital.
        if given in (known, known.title() if known.islower() else known):
            return known
    near = nearest(given, KNOWN_POLICIES)
    if near is not None:
        raise ConfigError(f'unknown policy "{given}"', key=f"{key}.policy", found=given, suggestion=near)
    return None


def translate_policy(draft: Draft, cfg: Mapping[str, Any], field: str) -> list[Entry]:
    """Returns the `param_scheduler` entries that are equivalent to an `lr_config` or `momentum_config`.

    Args:
        draft: The draft, with the length of the run.
        cfg: The section, with a built-in policy.
        field: "lr" or "momentum".
    """
    settings = {key: value for key, value in cfg.items() if key != "policy"}
    policy = policy_name(cfg, f"{field}_config")
    if field == "momentum" and policy == "step":
        settings.setdefault("gamma", 0.5)
    # In an iteration-based run, MMCV changes this default for the learning rate only.
    key, default = f"{field}_config.by_epoch", draft.by_epoch or field == "momentum"
    counts_epochs = check_flag("by_epoch", settings.pop("by_epoch", default), key=key)
    by_epoch = counts_epochs and policy not in _BY_ITERATION
    if by_epoch and not draft.by_epoch:
        return []  # the policy changes the value at epoch starts, which an iteration-based run does not have
    warmup = {key: settings.pop(key) for key in _WARMUP if key in settings}
    if warmup.get("warmup") is None:
        warmup = {}
    main = _native_schedules(draft, str(policy), settings, by_epoch=by_epoch, field=field, has_warmup=bool(warmup))
    if main is not None and not warmup:
        return main
    family, argument = _WARMUP_FACTORS.get(warmup.get("warmup"), (None, ""))
    ratio, iters = warmup.get("warmup_ratio", 0.1), warmup.get("warmup_iters", 0)
    fits = field == "lr" and family and not warmup.get("warmup_by_epoch") and iters > 0 and 0 < ratio <= 1
    if main is None or not fits:
        name = "PolicyLR" if field == "lr" else "PolicyMomentum"
        return [{"type": name, "policy": cfg["policy"], **settings, "by_epoch": by_epoch, **warmup}]
    # A schedule reaches its final value at `end - 1`, a warm-up at `warmup_iters`.
    return [{"type": family, argument: ratio, "by_epoch": False, "begin": 0, "end": iters + 1}, *main]


def _native_schedules(
    draft: Draft, policy: str, settings: Entry, *, by_epoch: bool, field: str, has_warmup: bool
) -> list[Entry] | None:
    """Returns equivalent second-generation schedules for a policy, or None if there are none.

    A warm-up scales the value, so only schedules that multiply the value can follow it.
    """
    kind = "LR" if field == "lr" else "Momentum"
    lowest, ratio = settings.get(f"min_{field}"), settings.get(f"min_{field}_ratio")
    known = settings.keys() - {f"min_{field}", f"min_{field}_ratio"}
    ends_at_zero = not lowest and not ratio
    fits_warmup = ends_at_zero or not has_warmup
    total = draft.length if by_epoch == draft.by_epoch else None
    full_range = {"by_epoch": by_epoch, "begin": 0, **({} if total is None else {"end": total})}
    if policy == "fixed" and not settings:
        return []
    if policy == "exp" and settings.keys() == {"gamma"}:
        return [{"type": f"Exponential{kind}", "gamma": settings["gamma"], **full_range}]
    if policy == "step" and ends_at_zero and known <= {"step", "gamma"}:
        return _steps(settings, kind, full_range)
    # Only a single `max_lr` has a counterpart.
    if policy == "OneCycle" and field == "lr" and not has_warmup and isinstance(settings.get("max_lr"), (int, float)):
        rest = {key: value for key, value in settings.items() if key not in ("max_lr", "total_steps")}
        steps = settings.get("total_steps")
        position: Entry = {"total_steps": steps, "by_epoch": False}
        if steps is None:
            conversion = {"convert_to_iter_based": True} if draft.by_epoch else {}
            position = {"total_steps": draft.length, "by_epoch": draft.by_epoch, **conversion}
        entry = {"type": "OneCycleLR", "eta_max": settings["max_lr"], **rest, **position}
        return None if position["total_steps"] is None else [entry]
    is_cosine = policy == "CosineAnnealing" and not known and (lowest is None) != (ratio is None)
    if is_cosine and fits_warmup and draft.length is not None:
        minimum = {"eta_min": lowest} if ratio is None else {"eta_min_ratio": ratio}
        position = {"by_epoch": draft.by_epoch, "begin": 0, "end": draft.length}
        # The number of iterations per epoch is known only when the run is built.
        conversion = {"convert_to_iter_based": True} if draft.by_epoch and not by_epoch else {}
        return [{"type": f"CosineAnnealing{kind}", "T_max": draft.length, **minimum, **position, **conversion}]
    if policy == "poly" and known <= {"power"} and ratio is None and fits_warmup and total is not None:
        end = {"eta_min": lowest or 0, **full_range, "end": total + 1}  # the final value is reached at `end - 1`
        return [{"type": f"Poly{kind}", "power": settings.get("power", 1.0), **end}]
    return None


def _steps(settings: Entry, kind: str, full_range: Entry) -> list[Entry] | None:
    step = settings.get("step")
    gamma = {"gamma": settings["gamma"]} if "gamma" in settings else {}
    if isinstance(step, int) and step > 0:
        return [{"type": f"Step{kind}", "step_size": step, **gamma, **full_range}]
    if not isinstance(step, (list, tuple)) or list(step) != sorted(step):
        return None
    return [{"type": f"MultiStep{kind}", "milestones": list(step), **gamma, **full_range}] if step else []
