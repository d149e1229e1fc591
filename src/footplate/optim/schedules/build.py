"""From `param_scheduler` in a config to the objects that training steps."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from footplate.error_context import at_key
from footplate.errors import ArgumentError, BuildError
from footplate.optim.schedules.checks import check_number
from footplate.optim.schedules.fields import HasGroups
from footplate.optim.schedules.lengths import warn_of_lengths
from footplate.optim.schedules.schedule import ParamSchedule
from footplate.registry import PARAM_SCHEDULERS

Schedules = list[ParamSchedule]

_NUMBERS = (
    *("begin", "end", "last_step", "gamma", "power", "eta_min", "eta_min_ratio", "T_max", "step_size"),
    *("eta_max", "total_steps", "pct_start", "div_factor", "final_div_factor"),
)
_ALWAYS = ("begin", "last_step")  # None means nothing there


def build_param_schedulers(
    cfg: Any,
    optim_wrapper: Any,
    *,
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
) -> Schedules | dict[str, Schedules]:
    """Builds the schedules of a run.

    Args:
        cfg: A dict with `type`, a schedule, a list of these, or None. Where the wrapper holds several optimizers: that
            for all of them, or a dict of it by the optimizer's name.
        optim_wrapper: The wrapper, or the optimizer, whose groups are scheduled.
        epoch_length: The iterations of an epoch, None where epochs have no length.
        max_epochs: The default `end` of schedules by epoch.
        max_iters: The default `end` of schedules by iteration.

    Returns:
        The schedules in the order in which they act, or a dict of such lists by optimizer name.

    Raises:
        FootplateError: An entry cannot be built; the error names its place under `param_scheduler`.
    """
    lengths = {"epoch_length": epoch_length, "max_epochs": max_epochs, "max_iters": max_iters}
    parts = getattr(optim_wrapper, "optim_wrappers", None)
    with at_key("param_scheduler"):
        if parts is None:
            return _build_list(cfg, optim_wrapper, lengths)
        if isinstance(cfg, Mapping) and "type" not in cfg:
            return {name: _build_list(each, parts[name], lengths, below=f"{name}.") for name, each in cfg.items()}
        return {name: _build_list(cfg, part, lengths) for name, part in parts.items()}


def _build_list(cfg: Any, optimizer: HasGroups, lengths: dict[str, int | None], *, below: str = "") -> Schedules:
    built = []
    for index, each in enumerate(_entries(cfg)):
        with at_key(f"[{index}]") if isinstance(cfg, Sequence) else nullcontext():
            built.append(_build(each, optimizer, lengths))
    prefixes = [
        f"param_scheduler.{below}{f'{place}.' if isinstance(cfg, Sequence) else ''}" for place in range(len(built))
    ]
    warn_of_lengths(built, ends=[_key_of_end(*each) for each in zip(prefixes, _entries(cfg), strict=True)], **lengths)
    return built


def _key_of_end(prefix: str, cfg: Any) -> str:
    """The key that says where a schedule ends, as it counts itself; "" where there is none."""
    says = isinstance(cfg, Mapping) and "end" in cfg and not cfg.get("convert_to_iter_based")
    return f"{prefix}end" if says else ""


def _entries(cfg: Any) -> Sequence[Any]:
    if cfg is None:
        return []
    if isinstance(cfg, (Mapping, ParamSchedule)):
        return [cfg]
    if isinstance(cfg, str) or not isinstance(cfg, Sequence):
        raise BuildError("a schedule is a dict with the key 'type', or a list of such", found=cfg)
    return cfg


def _build(cfg: Any, optimizer: HasGroups, lengths: dict[str, int | None]) -> ParamSchedule:
    if isinstance(cfg, ParamSchedule):
        return cfg
    if not isinstance(cfg, Mapping):
        raise BuildError("a schedule is built from a dict with the key 'type'", found=cfg)
    if "type" in cfg and getattr(PARAM_SCHEDULERS.resolve(cfg["type"], cfg), "needs_run", False):
        return PARAM_SCHEDULERS.build(cfg, optimizer, **lengths)  # type: ignore[no-any-return]
    for key in _NUMBERS:
        if key in cfg and key in _ALWAYS and cfg[key] is None:
            raise ArgumentError(f'"{key}" must be a number', key=key, found=None)
        check_number(key, cfg.get(key))
    defaults: dict[str, Any] = {}
    end = lengths["max_epochs" if cfg.get("by_epoch", True) else "max_iters"]
    if end is not None and end > cfg.get("begin", 0):
        defaults["end"] = end
    if cfg.get("convert_to_iter_based"):
        defaults["epoch_length"] = lengths["epoch_length"]
    built: ParamSchedule = PARAM_SCHEDULERS.build(cfg, optimizer, **defaults)
    return built
