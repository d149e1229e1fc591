"""Registers a schedule class for each curve and field, and builds schedules from `param_scheduler`."""

import inspect
import itertools
import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from footplate.checks import check_keys
from footplate.error_context import at_key, location_prefix, origin_of
from footplate.errors import ArgumentError, BuildError
from footplate.messages import pluralize
from footplate.optim.schedules import curves
from footplate.optim.schedules.base_curve import ENDLESS, Curve
from footplate.optim.schedules.param_schedule import ParamSchedule
from footplate.optim.schedules.schedule import HasParamGroups, Lengths, Schedule, collect_steps
from footplate.optim.schedules.torch_schedule import TorchSchedule, parts_of, stays_at_zero
from footplate.registry import PARAM_SCHEDULERS

_logger = logging.getLogger("footplate.optim")
_ELSEWHERE = {"interval": "by_epoch=False for 'step'"}  # Lightning's name


class NamedSchedule(ParamSchedule):
    """Base class for schedules whose class determines the curve. The classes are created by `schedule_type`."""

    curve_type: ClassVar[type[Curve]]

    def __init__(self, optimizer: HasParamGroups, **settings: Any) -> None:
        # Subclasses in code bases may bypass the constructor that `schedule_type` creates, and set the settings of the
        # curve as attributes, which are not checked.
        curve = object.__new__(self.curve_type)
        names = inspect.signature(self.curve_type).parameters
        vars(curve).update({name: value for name, value in vars(self).items() if name in names})
        super().__init__(optimizer, curve, **settings)


def schedule_type(name: str, curve_type: type[Curve], field: str | None) -> type[ParamSchedule]:
    """Creates and registers a schedule class. Its arguments include the curve's settings.

    Args:
        name: The registered name of the class.
        curve_type: The curve class.
        field: The field to schedule. If None, the class has an argument `param_name` to select the field.
    """
    settings = inspect.signature(curve_type).parameters
    shared = dict(inspect.signature(ParamSchedule.__init__).parameters)
    itself, optimizer, param_name = (shared.pop(key) for key in ("self", "optimizer", "param_name"))
    del shared["curve"]
    chosen = [param_name.replace(kind=param_name.POSITIONAL_OR_KEYWORD, default=param_name.empty)]
    # The registry uses this signature to check the arguments in a config.
    signature = inspect.Signature(
        [itself, optimizer, *(chosen if field is None else []), *settings.values(), *shared.values()]
    )

    def initialize(self: ParamSchedule, *args: Any, **kwargs: Any) -> None:
        arguments = signature.bind(self, *args, **kwargs).arguments
        curve = curve_type(**{key: arguments.pop(key) for key in settings if key in arguments})
        if field is not None:
            arguments["param_name"] = field
        ParamSchedule.__init__(curve=curve, **arguments)

    initialize.__signature__ = signature  # type: ignore[attr-defined]
    summary, _, details = inspect.cleandoc(curve_type.__doc__ or "").partition("\n\n")
    description = f"{summary}\n\nSchedules {field or 'the field `param_name`'}; see `ParamSchedule`.\n\n{details}"
    members = {"__init__": initialize, "__doc__": description, "__module__": __name__, "curve_type": curve_type}
    created = type(name, (NamedSchedule,), members)
    PARAM_SCHEDULERS.register_module(module=created)
    return created


# The classes are ConstantLR, CosineAnnealingLR, CosineRestartLR, ExponentialLR, LinearLR, MultiStepLR, OneCycleLR,
# PolyLR, QuadraticWarmupLR and StepLR, and the same with the suffixes Momentum and ParamScheduler instead of LR.
_CURVES = (
    curves.Constant,
    curves.CosineAnnealing,
    curves.CosineRestart,
    curves.Exponential,
    curves.Linear,
    curves.MultiStep,
    curves.OneCycle,
    curves.Poly,
    curves.QuadraticWarmup,
    curves.Step,
)
_FIELDS = {"LR": "lr", "Momentum": "momentum", "ParamScheduler": None}
for _curve, (_suffix, _field) in itertools.product(_CURVES, _FIELDS.items()):
    schedule_type(f"{_curve.__name__}{_suffix}", _curve, _field)

Schedules = list[Schedule]


def build_param_schedulers(
    cfg: Any,
    optim_wrapper: Any,
    *,
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
    counts_epochs: bool = True,
) -> Schedules | dict[str, Schedules]:
    """Builds a run's parameter schedules.

    Args:
        cfg: A dict with `type`, a schedule, a torch scheduler, a list of these, or None. If there are several
            optimizers, the schedules apply to all of them. To use different schedules, pass a dict that maps optimizer
            names to any of these.
        optim_wrapper: The optimizer wrapper, or the optimizer itself.
        epoch_length: The number of iterations per epoch, or None if unknown.
        max_epochs: The default `end` of epoch-based schedules.
        max_iters: The default `end` of iteration-based schedules.
        counts_epochs: Whether the run is epoch-based. Otherwise, schedules with `by_epoch=True` never step, unless they
            monitor a metric.

    Returns:
        A list of schedules in stepping order. For several optimizers, a dict that maps their names to such lists.

    Raises:
        FootplateError: A schedule cannot be built. The error includes the key path in `param_scheduler`.
    """
    lengths = {"epoch_length": epoch_length, "max_epochs": max_epochs, "max_iters": max_iters}
    wrappers = getattr(optim_wrapper, "optim_wrappers", None)
    if wrappers is None:
        return _build_list(cfg, optim_wrapper, lengths, "param_scheduler", counts_epochs=counts_epochs)
    is_by_name = isinstance(cfg, Mapping) and "type" not in cfg and "scheduler" not in cfg
    built: dict[str, Schedules] = {}
    for name, section in (cfg if is_by_name else dict.fromkeys(wrappers, cfg)).items():
        key = f"param_scheduler.{name}" if is_by_name else "param_scheduler"
        with at_key(key):
            wrapper = optim_wrapper[name]
        built[name] = _build_list(section, wrapper, lengths, key, counts_epochs=counts_epochs)
    return built


def _build_list(cfg: Any, optimizer: HasParamGroups, lengths: Lengths, key: str, *, counts_epochs: bool) -> Schedules:
    """Builds the schedules of one optimizer. Warns about schedules that do not match the run."""
    is_list = isinstance(cfg, (list, tuple))
    entries = [] if cfg is None else cfg if is_list else [cfg]
    built: Schedules = []
    sources = dict[Schedule, Any]()
    for index, entry in enumerate(entries):
        place = f"{key}[{index}]" if is_list else key
        with at_key(place):
            schedule = _build(entry, optimizer, lengths, counts_epochs=counts_epochs)
        built.append(schedule)
        sources[schedule] = entry
        if schedule.by_epoch and not counts_epochs and not schedule.takes_metrics:
            _logger.warning(
                "%s counts epochs, but training counts iterations, so it never advances past its first value. "
                "Set %s.by_epoch=False.",
                place,
                place,
            )
        _warn_of_raised_groups(schedule, location_prefix(origin_of(entry, "eta_min")) + place)
    with at_key(key):
        _check_ends([schedule for schedule in built if counts_epochs or not schedule.by_epoch], lengths, sources)
    count = getattr(optimizer, "_accumulative_counts", 1)
    if count > 1 and collect_steps(built).by_iter:
        _logger.info(
            "accumulative_counts=%d: schedules with by_epoch=False step after each iteration, not each optimizer step.",
            count,
        )
    return built


def _warn_of_raised_groups(schedule: Schedule, place: str) -> None:
    """Warns if a schedule ends at an absolute minimum that is above the initial value of some parameter groups."""
    minimum = getattr(getattr(schedule, "scheduler", schedule), "eta_min", None) or 0.0
    raised = [base for base in schedule.base_values if base < minimum]
    if raised and len(set(schedule.base_values)) > 1:
        _logger.warning(
            "%s raises the %s of %s from %g to its minimum of %g, despite multipliers such as lr_mult. Lower the "
            "minimum, or set it as a ratio (eta_min_ratio, min_lr_ratio). To freeze parameters, use FreezeHook.",
            *(place, schedule.param_name, pluralize(len(raised), "parameter group"), min(raised), minimum),
        )


def _build(cfg: Any, optimizer: HasParamGroups, lengths: Lengths, *, counts_epochs: bool) -> Schedule:
    if isinstance(cfg, Schedule):
        return cfg
    if isinstance(cfg, LRScheduler):
        cfg = {"scheduler": cfg}
    if not isinstance(cfg, Mapping):
        raise BuildError("a schedule must be a dict with a 'type' key, or a torch scheduler", found=cfg)
    if isinstance(cfg.get("scheduler"), LRScheduler):
        check_keys("the schedule", cfg, ("scheduler", "by_epoch", "by", "monitor"), elsewhere=_ELSEWHERE)
        return TorchSchedule(optimizer, counts_epochs=counts_epochs, **cfg)
    schedule_class = PARAM_SCHEDULERS.resolve(cfg["type"], cfg) if "type" in cfg else None
    from_config = getattr(schedule_class, "from_config", Schedule.from_config)
    return from_config(cfg, optimizer, lengths)


def _check_ends(schedules: Schedules, lengths: Lengths, sources: Mapping[Schedule, Any]) -> None:
    """Warns about schedules that do not match the length of the run. `sources` contains their config sections.

    Does not warn about a schedule that ends one step after training, which is a common way to avoid the final value.
    Also does not warn if a field's last schedule ends early at the base value, like a warm-up.

    Raises:
        ArgumentError: A torch scheduler has fewer steps than the run, so it would fail during training.
    """
    epoch_length = lengths["epoch_length"]

    def end_in_iterations(schedule: Schedule) -> int:
        if isinstance(schedule, TorchSchedule):
            return ENDLESS  # it may change the value at any time
        return schedule.end * epoch_length if schedule.by_epoch and epoch_length else schedule.end

    # The last schedule of each field.
    last = {schedule.param_name: schedule for schedule in sorted(schedules, key=end_in_iterations)}
    for schedule in schedules:
        total = lengths["max_epochs" if schedule.by_epoch else "max_iters"]
        if total is None or schedule.takes_metrics or (schedule.by_epoch and epoch_length is None):
            continue
        unit = "epoch" if schedule.by_epoch else "iteration"
        scheduler = schedule
        if isinstance(schedule, TorchSchedule):
            scheduler, total = schedule.scheduler, -(-total // schedule.iterations_per_step)
        name = type(scheduler).__name__
        if scheduler is not schedule and hasattr(scheduler, "total_steps") and schedule.end < total:
            raise ArgumentError(
                f"the {name} has {schedule.end} steps, but the run needs {total}: one per {unit}",
                key="total_steps",
                notes=[f"Set total_steps={total}."],
            )
        problem = _problem_of(schedule, total, is_last=schedule is last[schedule.param_name])
        if problem is not None:
            key, text = problem
            place = location_prefix(origin_of(sources[schedule], key))
            if scheduler is not schedule and schedule.by_epoch:
                text = text.rstrip(".") + (
                    ". If it counts iterations, set param_scheduler=dict(scheduler=..., by_epoch=False)."
                )
            _logger.warning("%s%s (by %s) %s", place, name, unit, text)


def _problem_of(schedule: Schedule, total: int, *, is_last: bool) -> tuple[str, str] | None:
    """Returns the key that does not fit a training run that ends at `total`, and a description, or None."""
    begin = schedule.begin
    curve = schedule.curve if isinstance(schedule, ParamSchedule) else Curve()
    length = curve.length()
    end = schedule.end if length is None else begin + length
    training_end = f"the end of training at {total}"
    if begin >= total:
        return "begin", f"begins at {begin}, at or after {training_end}"
    if total + 1 < end < ENDLESS:
        return "end", f"ends at {end}, after {training_end}. Set its `end` to at most {total}."
    if isinstance(curve, curves.MultiStep):
        for milestone in curve.milestones:
            if begin + milestone >= total:
                return "milestones", f"has a milestone at {begin + milestone}, at or after {training_end}"
    option = "If you extend a run, extend the schedule, too, and set resume_settings='take' (--resume-settings take)."
    stays = f"stays at {curve.eta_min:g}" if isinstance(curve, curves.Poly) else "no longer changes"
    if curve.ends_at_base():
        stays = ""
    if isinstance(schedule, TorchSchedule):
        stays = "stays at 0" if stays_at_zero(schedule.scheduler, total) else ""
        if stays and isinstance([*parts_of(schedule.scheduler)][-1], LambdaLR):
            return "scheduler", f"has the factor 0 before {training_end}, so the weights no longer change. {option}"
    if is_last and end < total and stays:
        return "end", f"ends at {end}, before {training_end}. After that, {schedule.param_name} {stays}. {option}"
    return None
