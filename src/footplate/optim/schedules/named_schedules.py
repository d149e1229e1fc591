"""The registered schedule classes, one per curve and field, and the builder of `param_scheduler`."""

import inspect
import itertools
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from torch.optim.lr_scheduler import LRScheduler

from footplate.checks import is_number
from footplate.error_context import at_key
from footplate.errors import ArgumentError, BuildError
from footplate.messages import nearest
from footplate.optim.schedules import curves
from footplate.optim.schedules.base_curve import ENDLESS, Curve
from footplate.optim.schedules.param_schedule import HasParamGroups, ParamSchedule
from footplate.optim.schedules.torch_schedule import torch_schedule
from footplate.registry import PARAM_SCHEDULERS
from footplate.registry.arguments import check_arguments

_logger = logging.getLogger("footplate.optim")


def schedule_type(
    name: str, curve_type: type[Curve], field: str | None, positional: Sequence[str] = ()
) -> type[ParamSchedule]:
    """Creates and registers a class of schedules that takes the settings of its curve.

    Args:
        name: The name of the class in the registry.
        curve_type: The class of the curve.
        field: The scheduled field. If it is None, the argument `param_name` specifies the field.
        positional: The settings of the curve that may be positional arguments, in their order. `begin`, `end`,
            `last_step`, `by_epoch` and `verbose` come after them. All other settings are keyword arguments.
    """
    curve_parameters = inspect.signature(curve_type).parameters

    def initialize(self: ParamSchedule, optimizer: HasParamGroups, *args: Any, **settings: Any) -> None:
        check_arguments(created, "schedule", settings, args=(optimizer, *args))
        settings.update(zip(order, args, strict=False))
        own = {key: settings.pop(key) for key in curve_parameters if key in settings}
        for key, value in own.items():
            if isinstance(value, np.generic):  # computing with it may reduce the precision
                own[key] = value.item()
        if field is not None:
            settings["param_name"] = field
        ParamSchedule.__init__(self, optimizer, curve_type(**own), **settings)

    # The signature is read by the registry, which checks the arguments of a config, and by help texts.
    itself, optimizer, _, param_name, *shared = inspect.signature(ParamSchedule.__init__).parameters.values()
    selected = [param_name.replace(default=inspect.Parameter.empty)] if field is None else []
    known = {each.name: each for each in (*selected, *curve_parameters.values(), *shared)}
    last = ("begin", "end", "last_step", "by_epoch", "verbose")
    order = [*(each.name for each in selected), *positional, *(each for each in last if each not in positional)]
    first = [known.pop(each).replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in order]
    others = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in known.values()]
    initialize.__signature__ = inspect.Signature([itself, optimizer, *first, *others])  # type: ignore[attr-defined]
    summary, _, details = inspect.cleandoc(curve_type.__doc__ or "").partition("\n\n")
    description = f"{summary}\n\nSchedules {field or 'the field `param_name`'}; see `ParamSchedule`.\n\n{details}"
    members = {"__init__": initialize, "__doc__": description, "__module__": __name__, "curve_type": curve_type}
    created = type(name, (ParamSchedule,), members)
    PARAM_SCHEDULERS.register_module(module=created)
    return created


# The settings of each curve that may be positional, in the order of MMEngine.
_CURVES: dict[type[Curve], str] = {
    curves.Constant: "factor",
    curves.CosineAnnealing: "T_max eta_min",
    curves.CosineRestart: "periods restart_weights eta_min eta_min_ratio",
    curves.Exponential: "gamma",
    curves.Linear: "start_factor end_factor",
    curves.MultiStep: "milestones gamma last_step",
    curves.OneCycle: "eta_max total_steps pct_start anneal_strategy div_factor final_div_factor three_phase",
    curves.Poly: "eta_min power",
    curves.QuadraticWarmup: "",
    curves.Step: "step_size gamma",
}
_FIELDS = {"LR": "lr", "Momentum": "momentum", "ParamScheduler": None}
for _curve, (_suffix, _field) in itertools.product(_CURVES, _FIELDS.items()):
    schedule_type(f"{_curve.__name__}{_suffix}", _curve, _field, _CURVES[_curve].split())

Schedules = list[ParamSchedule]


def build_param_schedulers(
    cfg: Any,
    optim_wrapper: Any,
    *,
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
    counts_epochs: bool = True,
) -> Schedules | dict[str, Schedules]:
    """Builds the parameter schedules of a run.

    Args:
        cfg: A dict with `type`, a schedule, a torch scheduler, a list of these, or None. If there are several
            optimizers, it applies to all of them. To use different schedules, pass a dict with one such config per
            optimizer name.
        optim_wrapper: The optimizer wrapper, or the optimizer itself.
        epoch_length: The number of iterations per epoch, or None if unknown.
        max_epochs: The default `end` of schedules that count epochs.
        max_iters: The default `end` of schedules that count iterations.
        counts_epochs: Whether the run counts epochs. Used only for torch schedulers.

    Returns:
        The schedules in the order in which they are stepped, or a dict that maps optimizer names to such lists.

    Raises:
        FootplateError: A schedule cannot be built. The error contains the key path in `param_scheduler`.
    """
    lengths = {"epoch_length": epoch_length, "max_epochs": max_epochs, "max_iters": max_iters}
    wrappers = getattr(optim_wrapper, "optim_wrappers", None)
    with at_key("param_scheduler"):
        if wrappers is None:
            return _build_list(cfg, optim_wrapper, lengths, counts_epochs=counts_epochs)
        entries = cfg if isinstance(cfg, (list, tuple)) else [cfg]
        schedulers = [each.get("scheduler") if isinstance(each, Mapping) else each for each in entries]
        if any(isinstance(each, LRScheduler) for each in schedulers):
            names = ", ".join(f"{name}=..." for name in wrappers)
            raise ArgumentError(
                "a torch scheduler belongs to one optimizer, but there are several",
                found=cfg,
                notes=[f"Pass a dict with the scheduler of each optimizer: param_scheduler=dict({names})."],
            )
        is_by_name = isinstance(cfg, Mapping) and "type" not in cfg
        built: dict[str, Schedules] = {}
        for name, each in (cfg if is_by_name else dict.fromkeys(wrappers, cfg)).items():
            if name not in wrappers:
                near = nearest(name, wrappers)
                raise ArgumentError(f"there is no optimizer '{name}'", key=name, found=list(wrappers), suggestion=near)
            prefix = f"{name}." if is_by_name else ""
            built[name] = _build_list(each, wrappers[name], lengths, prefix=prefix, counts_epochs=counts_epochs)
        return built


def _build_list(
    cfg: Any,
    optimizer: HasParamGroups,
    lengths: dict[str, int | None],
    *,
    prefix: str = "",
    counts_epochs: bool,
) -> Schedules:
    """Builds the schedules of one optimizer, and warns about those that do not fit the length of the run.

    There is no warning if a schedule ends one position after training, which is a common way to avoid reaching the
    final value, or if the last schedule ends at the base value, as a warm-up does.

    `lengths` are `epoch_length`, `max_epochs` and `max_iters` of the run (None if unknown). `prefix` is the name of the
    optimizer followed by a dot, if there are several optimizers.
    """
    is_list = isinstance(cfg, Sequence) and not isinstance(cfg, str)
    if not is_list and not isinstance(cfg, (Mapping, ParamSchedule, LRScheduler, type(None))):
        raise BuildError("param_scheduler must be a dict with the key 'type' or a list of such dicts", found=cfg)
    built, end_keys = [], []
    for index, entry in enumerate(cfg if is_list else [] if cfg is None else [cfg]):
        with at_key(f"[{index}]") if is_list else nullcontext():
            adopted = torch_schedule(entry, optimizer, counts_epochs=counts_epochs)
            built.append(adopted or _build(entry, optimizer, lengths))
        # Not for converted schedules, whose `end` in the config counts epochs while they count iterations.
        has_end = isinstance(entry, Mapping) and "end" in entry and not entry.get("convert_to_iter_based")
        end_keys.append(f"param_scheduler.{prefix}{f'{index}.' if is_list else ''}end" if has_end else "")
    epoch_length = lengths["epoch_length"]
    for schedule, key in zip(built, end_keys, strict=True):
        total = lengths["max_epochs" if schedule.by_epoch else "max_iters"]
        if total is None or schedule.takes_metrics or (schedule.by_epoch and epoch_length is None):
            continue
        name = f"{type(schedule).__name__} (by {'epoch' if schedule.by_epoch else 'iteration'})"
        advice = f"; to end with training, use --set {key}={total}" if key else ""
        milestones = schedule.curve.milestones if isinstance(schedule.curve, curves.MultiStep) else ()
        unreached = [each for each in milestones if each + schedule.begin >= total]
        if schedule.begin >= total:
            _logger.warning("%s begins at %d, at or after the end of training at %d", name, schedule.begin, total)
        elif total + 1 < schedule.end < ENDLESS:
            _logger.warning("%s ends at %d, after the end of training at %d%s", name, schedule.end, total, advice)
        elif unreached:
            _logger.warning(
                "%s has a milestone at %d, at or after the end of training at %d", name, unreached[0], total
            )
        last = max(
            (each for each in built if each.param_name == schedule.param_name),
            key=lambda each: each.end * (epoch_length or 1) if each.by_epoch else each.end,
        )
        if schedule is last and schedule.end < total and not schedule.curve.ends_at_base():
            _logger.warning("%s ends at %d, before the end of training at %d%s", name, schedule.end, total, advice)
    return built


def _build(cfg: Any, optimizer: HasParamGroups, lengths: dict[str, int | None]) -> ParamSchedule:
    if isinstance(cfg, ParamSchedule):
        return cfg
    if not isinstance(cfg, Mapping):
        raise BuildError("a schedule must be a dict with the key 'type'", found=cfg)
    defaults: dict[str, Any] = {}
    kind: Any = PARAM_SCHEDULERS.resolve(cfg["type"], cfg) if "type" in cfg else None
    if getattr(kind, "needs_run", False):
        defaults = lengths
    else:
        begin, end = cfg.get("begin", 0), lengths["max_epochs" if cfg.get("by_epoch", True) else "max_iters"]
        if end is not None and is_number(begin) and end > begin:
            defaults["end"] = end
        if cfg.get("convert_to_iter_based"):
            defaults["epoch_length"] = lengths["epoch_length"]
            if getattr(kind, "converts_itself", False):
                settings = {key: cfg[key] for key in cfg if key not in ("type", "convert_to_iter_based")}
                converted: ParamSchedule = kind.build_iter_from_epoch(optimizer, **{**defaults, **settings})
                return converted
    built: ParamSchedule = PARAM_SCHEDULERS.build(cfg, optimizer, **defaults)
    return built
