"""Translates `lr_config` and `momentum_config` into entries of `param_scheduler`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from footplate.checks import check_flag
from footplate.error_context import at_key, located, origin_of
from footplate.errors import ConfigError
from footplate.messages import nearest

Entry = dict[str, Any]

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
_BY_ITERATION = ("cyclic", "OneCycle")
_WARMUP = ("warmup", "warmup_iters", "warmup_ratio", "warmup_by_epoch")


class Length(NamedTuple):
    """The length of a run in epochs or in iterations; the other one is None."""

    epochs: int | None
    iters: int | None

    @property
    def by_epoch(self) -> bool:
        """Whether the run is counted in epochs."""
        return self.iters is None


def policy_name(cfg: Mapping[str, Any], key: str) -> str | None:
    """Returns the known name of the policy in `cfg`, None for a policy of the user's own.

    Args:
        cfg: A `lr_config` or `momentum_config`.
        key: Which of the two.

    Raises:
        ConfigError: There is no policy, or its name is nearly a known one.
    """
    given = cfg.get("policy")
    if not isinstance(given, str):
        raise ConfigError(f'{key} needs a "policy"', key=f"{key}.policy", origin=origin_of(cfg))
    for known in KNOWN_POLICIES:
        # A name in lower case stands for the capitalized one.
        if given in (known, known.title() if known.islower() else known):
            return known
    near = nearest(given, KNOWN_POLICIES)
    if near is not None:
        raise ConfigError(
            f'unknown policy "{given}"',
            key=f"{key}.policy",
            found=given,
            suggestion=near,
            origin=origin_of(cfg, "policy"),
        )
    return None


def translate_policy(cfg: Mapping[str, Any], length: Length, field: str) -> list[Entry]:
    """Returns the schedules that act as `cfg` does.

    Args:
        cfg: A `lr_config` or `momentum_config` of a known policy.
        length: The length of the run.
        field: "lr" or "momentum".
    """
    settings = {key: value for key, value in cfg.items() if key != "policy"}
    policy = policy_name(cfg, f"{field}_config")
    if field == "momentum" and policy == "step":
        settings.setdefault("gamma", 0.5)
    # A run by iterations sets this for learning rates alone.
    with at_key(f"{field}_config"), located(cfg):
        counted = check_flag("by_epoch", settings.pop("by_epoch", length.by_epoch or field == "momentum"))
    by_epoch = counted and policy not in _BY_ITERATION
    if by_epoch and not length.by_epoch:
        return []  # such a policy waits for epochs that a run by iterations never begins
    warmup = {key: settings.pop(key) for key in _WARMUP if key in settings}
    if warmup.get("warmup") is None:
        warmup = {}
    idiom = _idiom(str(policy), settings, length, by_epoch=by_epoch, field=field, alone=not warmup)
    start = _warmup_idiom(warmup, field)
    if idiom is None or start is None:
        name = "PolicyLR" if field == "lr" else "PolicyMomentum"
        return [{"type": name, "policy": cfg["policy"], **settings, "by_epoch": by_epoch, **warmup}]
    return [*start, *idiom]


def _warmup_idiom(warmup: Entry, field: str) -> list[Entry] | None:
    """Returns the schedules of a warm-up, or None if the second generation has no equal one."""
    if not warmup:
        return []
    ratio, iters = warmup.get("warmup_ratio", 0.1), warmup.get("warmup_iters", 0)
    factors = {"linear": ("Linear", "start_factor"), "constant": ("Constant", "factor")}
    fits = field == "lr" and not warmup.get("warmup_by_epoch") and iters > 0 and 0 < ratio <= 1
    if not fits or warmup["warmup"] not in factors:
        return None
    family, word = factors[warmup["warmup"]]
    # One more than the iterations below the full value, since a schedule arrives at its last position.
    return [{"type": f"{family}LR", word: ratio, "by_epoch": False, "begin": 0, "end": iters + 1}]


def _idiom(
    policy: str, settings: Entry, length: Length, *, by_epoch: bool, field: str, alone: bool
) -> list[Entry] | None:
    """Returns the second generation's schedules for a policy, or None if it has no equal ones.

    Args:
        policy: Its known name.
        settings: Its settings.
        length: The length of the run.
        by_epoch: Whether it counts epochs.
        field: "lr" or "momentum".
        alone: Without a warm-up. Under one only what multiplies comes out the same.
    """
    kind = "LR" if field == "lr" else "Momentum"
    lowest = settings.get(f"min_{field}")
    ratio = settings.get(f"min_{field}_ratio")
    known = set(settings) - {f"min_{field}", f"min_{field}_ratio"}
    falls_to_zero = not lowest and not ratio
    whole = _whole(length, by_epoch)
    if policy == "fixed" and not settings:
        return []
    if policy == "exp" and set(settings) == {"gamma"}:
        return [{"type": f"Exponential{kind}", "gamma": settings["gamma"], **whole}]
    if policy == "step":
        return _steps(settings, kind, whole) if falls_to_zero and known <= {"step", "gamma"} else None
    if policy == "OneCycle" and field == "lr" and alone:
        return _one_cycle(settings, length)
    if policy == "CosineAnnealing" and not known and (alone or falls_to_zero):
        return _cosine(kind, lowest, ratio, length, by_epoch=by_epoch)
    if policy == "poly" and known <= {"power"} and ratio is None and (alone or falls_to_zero):
        return _poly(kind, settings.get("power", 1.0), lowest or 0, length, by_epoch=by_epoch)
    return None


def _whole(length: Length, by_epoch: bool) -> Entry:
    """Returns the first and the last position, where the config says how long it trains."""
    end = length.epochs if by_epoch else length.iters
    return {"by_epoch": by_epoch, "begin": 0, **({} if end is None else {"end": end})}


def _steps(settings: Entry, kind: str, whole: Entry) -> list[Entry] | None:
    step = settings.get("step")
    gamma = {"gamma": settings["gamma"]} if "gamma" in settings else {}
    if isinstance(step, int) and step > 0:
        return [{"type": f"Step{kind}", "step_size": step, **gamma, **whole}]
    if not isinstance(step, (list, tuple)) or list(step) != sorted(step):
        return None
    return [{"type": f"MultiStep{kind}", "milestones": list(step), **gamma, **whole}] if step else []


def _cosine(kind: str, lowest: Any, ratio: Any, length: Length, *, by_epoch: bool) -> list[Entry] | None:
    span = length.epochs if length.by_epoch else length.iters
    if span is None or (lowest is None) == (ratio is None):
        return None
    floor = {"eta_min": lowest} if ratio is None else {"eta_min_ratio": ratio}
    # Iterations in a run by epochs: only the run itself knows how many, hence the conversion.
    converts = {"convert_to_iter_based": True} if length.by_epoch and not by_epoch else {}
    where = {"by_epoch": length.by_epoch, "begin": 0, "end": span, **converts}
    return [{"type": f"CosineAnnealing{kind}", "T_max": span, **floor, **where}]


def _poly(kind: str, power: float, lowest: float, length: Length, *, by_epoch: bool) -> list[Entry] | None:
    span = length.epochs if by_epoch else length.iters
    if span is None:
        return None
    # One more than the run, since a schedule arrives at its last position and a policy never quite does.
    return [
        {"type": f"Poly{kind}", "power": power, "eta_min": lowest, "by_epoch": by_epoch, "begin": 0, "end": span + 1}
    ]


def _one_cycle(settings: Entry, length: Length) -> list[Entry] | None:
    """Translates the policy OneCycle of the learning rate; only a single `max_lr` has a counterpart."""
    rest = {key: value for key, value in settings.items() if key not in ("max_lr", "total_steps")}
    if not isinstance(settings.get("max_lr"), (int, float)):
        return None
    total, span = settings.get("total_steps"), length.epochs if length.by_epoch else length.iters
    if span is None and total is None:
        return None
    if total is None and length.by_epoch:
        where = {"total_steps": span, "by_epoch": True, "convert_to_iter_based": True}
    else:
        where = {"total_steps": span if total is None else total, "by_epoch": False}
    return [{"type": "OneCycleLR", "eta_max": settings["max_lr"], **rest, **where}]
