"""The registered schedule classes: one per curve family and field."""

import dataclasses
import inspect
from typing import Any, ClassVar

from footplate.errors import ArgumentError, BuildError
from footplate.messages import nearest
from footplate.optim.schedules.curves import (
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
