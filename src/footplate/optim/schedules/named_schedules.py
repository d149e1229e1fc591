"""The registered schedule classes, one per curve family and field, and the builder of `param_scheduler`."""

import dataclasses
import inspect
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

from footplate.error_context import at_key
from footplate.errors import ArgumentError, BuildError
from footplate.messages import nearest
from footplate.optim.schedules.checks import check_number
from footplate.optim.schedules.curves import (
    ENDLESS,
    Constant,
    CosineAnnealing,
    CosineRestart,
    Exponential,
    Family,
    Linear,
    MultiStep,
    OneCycle,
    Poly,
    QuadraticWarmup,
    Step,
)
from footplate.optim.schedules.param_schedule import HasParamGroups, ParamSchedule
from footplate.registry import PARAM_SCHEDULERS

_COMMON_DEFAULTS = {"begin": 0, "end": None, "by_epoch": True, "last_step": -1, "verbose": False}
_CONVERSION_DEFAULTS = {"convert_to_iter_based": False, "epoch_length": None}


class NamedSchedule(ParamSchedule):
    """The base class of schedules that accept the settings of their curve as keyword arguments.

    Args:
        optimizer: An optimizer or optimizer wrapper.
        settings: The arguments of the curve family and of `ParamSchedule`. With `convert_to_iter_based` and
            `epoch_length`, settings in epochs are converted to iterations.

    Raises:
        BuildError: An argument is unknown or missing.
        ArgumentError: A value is out of range.
    """

    family_type: ClassVar[type[Family]]
    field: ClassVar[str | None]

    def __init__(self, optimizer: HasParamGroups, **settings: Any) -> None:
        name = type(self).__name__
        shared = {key: settings.pop(key, default) for key, default in _COMMON_DEFAULTS.items()}
        converts = settings.pop("convert_to_iter_based", False)
        epoch_length = settings.pop("epoch_length", None)
        param_name = self.field or settings.pop("param_name")
        _check_settings(name, self.family_type, settings)
        family = self.family_type(**settings)
        if converts:
            _convert_to_iterations(name, shared, epoch_length)
            family = family.in_iterations(epoch_length)
        super().__init__(optimizer, family, param_name=param_name, **shared)


def _convert_to_iterations(name: str, shared: dict[str, Any], epoch_length: int | None) -> None:
    if not shared["by_epoch"]:
        raise ArgumentError(
            f"convert_to_iter_based of {name} needs by_epoch=True", key="convert_to_iter_based", found=True
        )
    if not epoch_length:
        raise ArgumentError(
            f"convert_to_iter_based of {name} needs epoch_length", key="convert_to_iter_based", found=True
        )
    shared["by_epoch"] = False
    shared["begin"] = int(shared["begin"] * epoch_length)
    if shared["end"] is not None:
        shared["end"] = int(shared["end"] * epoch_length)


def _check_settings(name: str, family: type[Family], settings: dict[str, Any]) -> None:
    known = [each.name for each in dataclasses.fields(family)]
    for key, value in settings.items():
        if key not in known:
            raise BuildError(
                f"schedule '{name}' takes no argument '{key}'",
                key=key,
                found=value,
                suggestion=nearest(key, [*known, *_COMMON_DEFAULTS]),
            )


def _signature(family: type[Family], field: str | None) -> inspect.Signature:
    """Returns the signature of a schedule class, for help texts and for checks before it is called."""
    kind = inspect.Parameter.KEYWORD_ONLY
    param_name = [inspect.Parameter("param_name", kind, annotation=str)] if field is None else []
    own = [each.replace(kind=kind) for each in inspect.signature(family).parameters.values()]
    shared = [
        inspect.Parameter(key, kind, default=value)
        for key, value in {**_COMMON_DEFAULTS, **_CONVERSION_DEFAULTS}.items()
    ]
    first = inspect.Parameter("optimizer", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Signature([first, *param_name, *own, *shared])


def schedule_type(name: str, family: type[Family], field: str | None) -> type[NamedSchedule]:
    """Creates and registers a schedule class.

    Args:
        name: The name of the class in the registry.
        family: The curve family of the schedule.
        field: The scheduled field; None to take it from the argument `param_name`.
    """
    members = {
        "__module__": __name__,
        "__doc__": f"{family.__doc__}\n\nSchedules {field or 'the field `param_name`'}; see `ParamSchedule`.",
        "__signature__": _signature(family, field),
        "family_type": family,
        "field": field,
    }
    created = type(name, (NamedSchedule,), members)
    PARAM_SCHEDULERS.register_module(module=created)
    return created


ConstantLR = schedule_type("ConstantLR", Constant, "lr")
ConstantMomentum = schedule_type("ConstantMomentum", Constant, "momentum")
ConstantParamScheduler = schedule_type("ConstantParamScheduler", Constant, None)
LinearLR = schedule_type("LinearLR", Linear, "lr")
LinearMomentum = schedule_type("LinearMomentum", Linear, "momentum")
LinearParamScheduler = schedule_type("LinearParamScheduler", Linear, None)
ExponentialLR = schedule_type("ExponentialLR", Exponential, "lr")
ExponentialMomentum = schedule_type("ExponentialMomentum", Exponential, "momentum")
ExponentialParamScheduler = schedule_type("ExponentialParamScheduler", Exponential, None)
StepLR = schedule_type("StepLR", Step, "lr")
StepMomentum = schedule_type("StepMomentum", Step, "momentum")
StepParamScheduler = schedule_type("StepParamScheduler", Step, None)
MultiStepLR = schedule_type("MultiStepLR", MultiStep, "lr")
MultiStepMomentum = schedule_type("MultiStepMomentum", MultiStep, "momentum")
MultiStepParamScheduler = schedule_type("MultiStepParamScheduler", MultiStep, None)
PolyLR = schedule_type("PolyLR", Poly, "lr")
PolyMomentum = schedule_type("PolyMomentum", Poly, "momentum")
PolyParamScheduler = schedule_type("PolyParamScheduler", Poly, None)
CosineAnnealingLR = schedule_type("CosineAnnealingLR", CosineAnnealing, "lr")
CosineAnnealingMomentum = schedule_type("CosineAnnealingMomentum", CosineAnnealing, "momentum")
CosineAnnealingParamScheduler = schedule_type("CosineAnnealingParamScheduler", CosineAnnealing, None)
CosineRestartLR = schedule_type("CosineRestartLR", CosineRestart, "lr")
CosineRestartMomentum = schedule_type("CosineRestartMomentum", CosineRestart, "momentum")
CosineRestartParamScheduler = schedule_type("CosineRestartParamScheduler", CosineRestart, None)
OneCycleLR = schedule_type("OneCycleLR", OneCycle, "lr")
OneCycleParamScheduler = schedule_type("OneCycleParamScheduler", OneCycle, None)
QuadraticWarmupLR = schedule_type("QuadraticWarmupLR", QuadraticWarmup, "lr")
QuadraticWarmupMomentum = schedule_type("QuadraticWarmupMomentum", QuadraticWarmup, "momentum")
QuadraticWarmupParamScheduler = schedule_type("QuadraticWarmupParamScheduler", QuadraticWarmup, None)
OneCycleMomentum = schedule_type("OneCycleMomentum", OneCycle, "momentum")


_logger = logging.getLogger("footplate.optim")

Schedules = list[ParamSchedule]

_NUMBERS = (
    *("begin", "end", "last_step", "gamma", "power", "eta_min", "eta_min_ratio", "T_max", "step_size"),
    *("eta_max", "total_steps", "pct_start", "div_factor", "final_div_factor"),
)
_REQUIRED = ("begin", "last_step")  # may not be None


def build_param_schedulers(
    cfg: Any,
    optim_wrapper: Any,
    *,
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
) -> Schedules | dict[str, Schedules]:
    """Builds the parameter schedules of a run.

    Args:
        cfg: A dict with `type`, a schedule, a list of these, or None. If there are several optimizers, this applies
            to all of them; or give a dict with one such config per optimizer name.
        optim_wrapper: The optimizer wrapper or optimizer.
        epoch_length: The iterations of an epoch, None if unknown.
        max_epochs: The default `end` of schedules by epoch.
        max_iters: The default `end` of schedules by iteration.

    Returns:
        The schedules in the order in which they are stepped, or a dict of such lists by optimizer name.

    Raises:
        FootplateError: A schedule cannot be built. The error contains the key below `param_scheduler`.
    """
    lengths = {"epoch_length": epoch_length, "max_epochs": max_epochs, "max_iters": max_iters}
    wrappers = getattr(optim_wrapper, "optim_wrappers", None)
    with at_key("param_scheduler"):
        if wrappers is None:
            return _build_list(cfg, optim_wrapper, lengths)
        if isinstance(cfg, Mapping) and "type" not in cfg:
            return {name: _build_list(each, wrappers[name], lengths, prefix=f"{name}.") for name, each in cfg.items()}
        return {name: _build_list(cfg, wrapper, lengths) for name, wrapper in wrappers.items()}


def _build_list(cfg: Any, optimizer: HasParamGroups, lengths: dict[str, int | None], *, prefix: str = "") -> Schedules:
    entries = _entries(cfg)
    built, end_keys = [], []
    for index, entry in enumerate(entries):
        with at_key(f"[{index}]") if isinstance(cfg, Sequence) else nullcontext():
            built.append(_build(entry, optimizer, lengths))
        # Not for converted schedules, whose `end` in the config counts epochs while they count iterations.
        has_end = isinstance(entry, Mapping) and "end" in entry and not entry.get("convert_to_iter_based")
        position = f"{index}." if isinstance(cfg, Sequence) else ""
        end_keys.append(f"param_scheduler.{prefix}{position}end" if has_end else "")
    warn_about_lengths(built, end_keys=end_keys, **lengths)
    return built


def _entries(cfg: Any) -> Sequence[Any]:
    if cfg is None:
        return []
    if isinstance(cfg, (Mapping, ParamSchedule)):
        return [cfg]
    if isinstance(cfg, str) or not isinstance(cfg, Sequence):
        raise BuildError("param_scheduler must be a dict with the key 'type' or a list of such dicts", found=cfg)
    return cfg


def _build(cfg: Any, optimizer: HasParamGroups, lengths: dict[str, int | None]) -> ParamSchedule:
    if isinstance(cfg, ParamSchedule):
        return cfg
    if not isinstance(cfg, Mapping):
        raise BuildError("a schedule must be a dict with the key 'type'", found=cfg)
    if "type" in cfg and getattr(PARAM_SCHEDULERS.resolve(cfg["type"], cfg), "needs_run", False):
        return PARAM_SCHEDULERS.build(cfg, optimizer, **lengths)  # type: ignore[no-any-return]
    for key in _NUMBERS:
        if key in cfg and key in _REQUIRED and cfg[key] is None:
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


def warn_about_lengths(
    schedules: Sequence[ParamSchedule],
    *,
    end_keys: Sequence[str] = (),
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
) -> None:
    """Warns about schedules that end, or have a milestone, after the end of training, or end before it.

    There is no warning about an end one position after that of training, which is a common way to not reach the final
    value. Nor is there one about a last schedule that ends at the base value, such as a warm-up.

    Args:
        schedules: The schedules of one optimizer.
        end_keys: The config key of the `end` of each schedule, "" if the config does not set it.
        epoch_length: The iterations of an epoch, None if unknown.
        max_epochs: The epochs of the run.
        max_iters: The iterations of the run.
    """
    for schedule, key in zip(schedules, end_keys or [""] * len(schedules), strict=True):
        total = max_epochs if schedule.by_epoch else max_iters
        if total is None or schedule.takes_metrics or (schedule.by_epoch and epoch_length is None):
            continue
        name = f"{type(schedule).__name__} (by {'epoch' if schedule.by_epoch else 'iteration'})"
        advice = f"; to end with training, use --set {key}={total}" if key else ""
        _warn_if_after(schedule, total, name, advice)
        last = max(
            (each for each in schedules if each.param_name == schedule.param_name),
            key=lambda each: each.end * (epoch_length or 1) if each.by_epoch else each.end,
        )
        if schedule is last and schedule.end < total and not schedule.family.settles():
            _logger.warning("%s ends at %d, before the end of training at %d%s", name, schedule.end, total, advice)


def _warn_if_after(schedule: ParamSchedule, total: int, name: str, advice: str) -> None:
    milestones = schedule.family.milestones if isinstance(schedule.family, MultiStep) else ()
    unreached = [each for each in milestones if each + schedule.begin >= total]
    if schedule.begin >= total:
        _logger.warning("%s begins at %d, after the end of training at %d", name, schedule.begin, total)
    elif total + 1 < schedule.end < ENDLESS:
        _logger.warning("%s ends at %d, after the end of training at %d%s", name, schedule.end, total, advice)
    elif unreached:
        _logger.warning("%s has a milestone at %d, after the end of training at %d", name, unreached[0], total)
