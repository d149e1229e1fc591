"""The base classes of `mmengine.optim.scheduler` for schedules in code bases."""

from contextlib import suppress
from typing import Any

from footplate.checkpoint.serializable import to_serializable
from footplate.errors import CheckpointError
from footplate.optim.schedules import Curve, ParamSchedule
from footplate.optim.schedules.base_curve import ENDLESS
from footplate.optim.schedules.schedule import HasParamGroups, Lengths, Schedule
from footplate_openmmlab.mmengine.registry import AcceptsBase

INF = ENDLESS
_SETTINGS = {"optimizer", "curve", "param_name", "begin", "end", "last_step", "by_epoch", "verbose"}
_OF_THE_BASE = _SETTINGS | {"_global_step", "_initial", "_key", "base_values"}


class _UnknownCurve(Curve):
    """A placeholder for the curve in schedules that compute their values without one."""

    def ends_at_base(self) -> bool:
        """Returns True to suppress the warning about the end of the schedule."""
        return True


class _ParamScheduler(ParamSchedule, metaclass=AcceptsBase):
    """Base class for schedules that compute the next value of each parameter group in `_get_value`.

    Args:
        optimizer: The optimizer or optimizer wrapper.
        param_name: The field of the parameter groups, such as "lr".
        begin: The first step of the schedule.
        end: The step at which the schedule ends.
        last_step: The last completed step of a resumed run; -1 for a new run.
        by_epoch: Whether steps are epochs.
        verbose: Whether to log each change.

    Raises:
        ArgumentError: `begin` is not less than `end`, or the parameter groups do not have the field.
    """

    def __init__(
        self,
        optimizer: Any,
        param_name: str,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            optimizer,
            _UnknownCurve(),
            param_name=param_name,
            begin=begin,
            end=end,
            last_step=last_step,
            by_epoch=by_epoch,
            verbose=verbose,
        )

    @classmethod
    def from_config(cls, cfg: Any, optimizer: HasParamGroups, lengths: Lengths) -> Schedule:
        """Builds the schedule from its config. `build_iter_from_epoch` converts it from epochs to iterations."""
        if cfg.get("convert_to_iter_based"):
            cfg = {"epoch_length": lengths["epoch_length"], **cfg, "type": cls.build_iter_from_epoch}
            del cfg["convert_to_iter_based"]
        return super().from_config(cfg, optimizer, lengths)

    def _get_value(self) -> list[float]:
        raise NotImplementedError(f"{type(self).__name__} must define _get_value.")

    def state_dict(self) -> dict[str, Any]:
        """Returns the base class's state and all additional attributes that can be stored in a checkpoint."""
        own = {}
        for key in vars(self).keys() - _OF_THE_BASE:
            with suppress(CheckpointError):
                own[key] = to_serializable(vars(self)[key])
        return {**own, **super().state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state returned by `state_dict`."""
        vars(self).update({key: state_dict[key] for key in state_dict.keys() & vars(self).keys() - _OF_THE_BASE})
        super().load_state_dict(state_dict)


class _OfField:
    """Mixin that passes a fixed parameter group field, such as "lr", to the schedule's constructor."""

    _field: str

    def __init__(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(optimizer, self._field, *args, **kwargs)  # type: ignore[call-arg]


class LRSchedulerMixin(_OfField):
    """Mixin for learning rate schedules."""

    _field = "lr"


class MomentumSchedulerMixin(_OfField):
    """Mixin for momentum schedules."""

    _field = "momentum"
