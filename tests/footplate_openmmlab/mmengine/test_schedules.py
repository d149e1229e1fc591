from typing import Any

import pytest
import torch
from torch import nn

from footplate.registry import PARAM_SCHEDULERS
from footplate_openmmlab.mmengine.schedules import INF, LRSchedulerMixin, _ParamScheduler


class _Ramp(_ParamScheduler):
    """Multiplies the base value by the number of steps taken, as a code base would write it."""

    def __init__(self, optimizer: Any, param_name: str, begin: int = 0, end: int = INF, by_epoch: bool = True) -> None:
        self.total_iters = end - begin
        super().__init__(optimizer, param_name, begin, end, by_epoch=by_epoch)

    @classmethod
    def build_iter_from_epoch(
        cls, *args: Any, begin: int = 0, end: int = INF, by_epoch: bool = True, epoch_length: int = 0, **kwargs: Any
    ) -> "_Ramp":
        assert by_epoch
        settings = {"begin": begin * epoch_length, "end": end * epoch_length, "by_epoch": False, **kwargs}
        return cls(*args, **settings)

    def _get_value(self) -> list[float]:
        return [base * (self.last_step + 1) for base in self.base_values]


class RampLR(LRSchedulerMixin, _Ramp):
    """Changes the learning rate."""


@pytest.fixture(autouse=True)
def _registered() -> None:
    PARAM_SCHEDULERS.register_module(module=RampLR, force=True)


_Constant: Any = PARAM_SCHEDULERS.get("ConstantParamScheduler")


class _AnyFactor(_Constant):  # type: ignore[misc]
    """Skips the constructor of its base class, which checks the factor, as MMPose does."""

    def __init__(self, optimizer: Any, param_name: str, factor: float, begin: int = 0, end: int = INF) -> None:
        self.factor = factor
        super(_Constant, self).__init__(optimizer, param_name=param_name, begin=begin, end=end)


class AnyFactorLR(LRSchedulerMixin, _AnyFactor):
    """Multiplies the learning rate by any factor."""


def test_a_schedule_of_a_code_base_that_skips_the_constructor_of_its_base_class() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
    with pytest.raises(TypeError, match="param_name"):
        _ParamScheduler(optimizer)  # type: ignore[call-arg]
    schedule = AnyFactorLR(optimizer, factor=4.0, end=3)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert rates == [2.0, 2.0, 0.5, 0.5]
    assert (schedule.factor, schedule.end) == (4.0, 3)
