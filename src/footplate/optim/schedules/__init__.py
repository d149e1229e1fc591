"""Curves, and the parameter schedules that apply them to fields of parameter groups."""

from typing import Any

from footplate.optim.schedules.base_curve import Curve
from footplate.optim.schedules.named_schedules import build_param_schedulers, schedule_type
from footplate.optim.schedules.param_schedule import ParamSchedule
from footplate.optim.schedules.plateau import ReduceOnPlateau
from footplate.optim.schedules.schedule import Schedule, collect_steps, field_key, read_field
from footplate.registry import PARAM_SCHEDULERS

__all__ = [
    "Curve",
    "ParamSchedule",
    "ReduceOnPlateau",
    "Schedule",
    "build_param_schedulers",
    "collect_steps",
    "field_key",
    "read_field",
    "schedule_type",
]


def __getattr__(name: str) -> Any:
    """Returns a registered schedule class, e.g. `CosineAnnealingLR`."""
    try:
        return PARAM_SCHEDULERS.module_dict[name]
    except KeyError as error:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'") from error
