"""The names under which configs know the schedules: one curve family serves every field."""

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
from footplate.optim.schedules.fields import HasGroups
from footplate.optim.schedules.schedule import ParamSchedule
from footplate.registry import PARAM_SCHEDULERS

_SHARED = {"begin": 0, "end": None, "by_epoch": True, "last_step": -1, "verbose": False}
_CONVERSION = {"convert_to_iter_based": False, "epoch_length": None}


class NamedSchedule(ParamSchedule):
    """A schedule that takes its curve's settings as plain keyword arguments.

    Args:
        optimizer: An optimizer or wrapper.
        settings: The arguments of the curve's family, those of `ParamSchedule`, and `convert_to_iter_based` with
            `epoch_length`: settings that count epochs are then counted in iterations.

    Raises:
        BuildError: An argument is unknown or missing.
        ArgumentError: A value makes no sense.
    """

    family_type: ClassVar[type[Family]]
    field: ClassVar[str | None]

    def __init__(self, optimizer: HasGroups, **settings: Any) -> None:
        name = type(self).__name__
        shared = {key: settings.pop(key, default) for key, default in _SHARED.items()}
        converts = settings.pop("convert_to_iter_based", False)
        epoch_length = settings.pop("epoch_length", None)
        param_name = self.field or settings.pop("param_name")
        _check_settings(name, self.family_type, settings)
        family = self.family_type(**settings)
        if converts:
            _convert(name, shared, epoch_length)
            family = family.in_iterations(epoch_length)
        super().__init__(optimizer, family, param_name=param_name, **shared)


def _convert(name: str, shared: dict[str, Any], epoch_length: int | None) -> None:
    if not shared["by_epoch"]:
        raise ArgumentError(
            f"{name}: convert_to_iter_based needs by_epoch=True", key="convert_to_iter_based", found=True
        )
    if not epoch_length:
        raise ArgumentError(
            f"{name}: convert_to_iter_based needs the length of an epoch", key="convert_to_iter_based", found=True
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
                suggestion=nearest(key, [*known, *_SHARED]),
            )


def _signature(family: type[Family], field: str | None) -> inspect.Signature:
    """Returns what the constructor takes, for help, and for checks before it is called."""
    kind = inspect.Parameter.KEYWORD_ONLY
    named = [inspect.Parameter("param_name", kind, annotation=str)] if field is None else []
    own = [each.replace(kind=kind) for each in inspect.signature(family).parameters.values()]
    shared = [inspect.Parameter(key, kind, default=value) for key, value in {**_SHARED, **_CONVERSION}.items()]
    first = inspect.Parameter("optimizer", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Signature([first, *named, *own, *shared])


def schedule_type(name: str, family: type[Family], field: str | None) -> type[NamedSchedule]:
    """Makes and registers the class that configs know as `name`.

    Args:
        name: The registered name.
        family: The curve it follows.
        field: The field it moves; None takes it from the argument `param_name`.
    """
    members = {
        "__module__": __name__,
        "__doc__": f"{family.__doc__}\n\nMoves {field or 'the field `param_name`'}; see `ParamSchedule`.",
        "__signature__": _signature(family, field),
        "family_type": family,
        "field": field,
    }
    made = type(name, (NamedSchedule,), members)
    PARAM_SCHEDULERS.register_module(module=made)
    return made


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
