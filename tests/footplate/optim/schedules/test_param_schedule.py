import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from footplate.optim.schedules.base_curve import Curve
from footplate.optim.schedules.curves import (
    Constant,
    CosineAnnealing,
    CosineRestart,
    Exponential,
    Linear,
    OneCycle,
    Step,
)
from footplate.optim.schedules.param_schedule import ParamSchedule

PARAMETER = nn.Parameter(torch.zeros(1))


def test_tensor_is_filled_in_place() -> None:
    rate = torch.tensor(0.1)
    optimizer = SGD([PARAMETER], lr=rate)
    ParamSchedule(optimizer, Constant(0.5), end=3)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == torch.tensor(0.05)


def sgd(*rates: float) -> SGD:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates or (1.0,)]
    return SGD(groups, momentum=0.9)


def rates(optimizer: Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def test_one_cycle_sets_the_base_value_of_later_schedules() -> None:
    optimizer = sgd()
    before = ParamSchedule(optimizer, CosineRestart([2, 1], [1, 1]))
    ParamSchedule(optimizer, OneCycle(eta_max=5.0, total_steps=9, div_factor=10.0))
    after = ParamSchedule(optimizer, CosineRestart([2, 1], [1, 1]))
    assert (before.base_values, after.base_values) == ([1.0], [0.5])
    assert rates(optimizer) == [0.5]


@pytest.mark.parametrize("curve", [Exponential(0.7), Step(2, 0.5), CosineAnnealing(T_max=7, eta_min=0.01)])
@pytest.mark.parametrize("end", [1, 4])
def test_extended_run_has_the_values_of_an_uninterrupted_run(curve: Curve, end: int) -> None:
    straight, short, longer = sgd(0.3), sgd(0.3), sgd(0.3)
    whole = ParamSchedule(straight, curve, end=9)
    ended = ParamSchedule(short, curve, end=end)
    for _ in range(end):
        whole.step()
        ended.step()
    resumed = ParamSchedule(longer, curve, end=9)
    longer.load_state_dict(short.state_dict())
    resumed.resume(ended.state_dict())
    for _ in range(4):
        assert rates(longer) == rates(straight)
        assert resumed.state_dict() == whole.state_dict()
        whole.step()
        resumed.step()


def test_a_loaded_state_replaces_the_settings_of_the_constructor() -> None:
    saved = ParamSchedule(sgd(0.1), Step(step_size=2, gamma=0.5), begin=1, end=8, by_epoch=False)
    other = ParamSchedule(sgd(0.1), Step(step_size=3), end=4)
    for _ in range(5):
        saved.step()
    other.optimizer.load_state_dict(saved.optimizer.state_dict())  # type: ignore[attr-defined]
    other.load_state_dict(saved.state_dict())
    assert (other.begin, other.end, other.by_epoch, other.curve) == (1, 8, False, saved.curve)
    for _ in range(4):
        assert other.get_last_value() == saved.get_last_value()
        saved.step()
        other.step()


def test_curves_with_own_constructors_are_resumed() -> None:
    class Mine(Curve):
        depends_on_end = False

        def __init__(self, factor: float) -> None:
            object.__setattr__(self, "factor", factor)

        def __call__(self, current: float, base: float, position: int, span: int) -> float:
            return base * self.factor**position  # type: ignore[attr-defined, no-any-return]

    saved, other = (ParamSchedule(sgd(0.1), Mine(0.5)) for _ in range(2))
    saved.step()
    other.resume(saved.state_dict())
    assert other.last_step == saved.last_step


def test_last_step_continues_a_schedule() -> None:
    straight, stopped = sgd(0.1), sgd(0.1)
    whole, first = (ParamSchedule(optimizer, Exponential(gamma=0.9)) for optimizer in (straight, stopped))
    for _ in range(4):
        whole.step()
        first.step()
    second = ParamSchedule(stopped, Exponential(gamma=0.9), last_step=4)  # performs the step that `first` did not
    for _ in range(3):
        whole.step()
        assert rates(stopped) == rates(straight)
        second.step()


def test_rewound_schedules_start_from_loaded_base_values() -> None:
    optimizer = sgd(0.1, 0.2)
    several = [
        ParamSchedule(optimizer, Linear(start_factor=0.5), end=4, by_epoch=False),
        ParamSchedule(optimizer, Step(step_size=2, gamma=0.1)),
    ]
    initial = rates(optimizer)
    for schedule in several:
        for _ in range(3):
            schedule.step()
    optimizer.param_groups[0]["initial_lr"] = 0.3
    del optimizer.param_groups[1]["initial_lr"]  # as in states of engines that do not store it
    for schedule in several:
        schedule.rewind()
    assert rates(optimizer) == [0.3, 0.2]
    for schedule in several:
        schedule.start()
    assert rates(optimizer) == pytest.approx([3 * initial[0], initial[1]])
    assert [schedule.last_step for schedule in several] == [0, 0]
