import copy
import pickle
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from footplate.models import (
    BaseAveragedModel,
    ExponentialMovingAverage,
    MomentumAnnealingEMA,
    StochasticWeightAverage,
)
from footplate.models.averaged_models import _StateCopy
from footplate_openmmlab.first_generation.adapters.warm_up_ema import WarmUpEMA


def averages_of_1_to_6(kind: type[BaseAveragedModel], **settings: Any) -> list[tuple[float, float, int]]:
    """Averages the values 1 to 6 and returns weight, running mean and batch count after each update."""
    model = nn.BatchNorm1d(1)
    average, seen = kind(model, **settings), []
    for value in range(1, 7):
        nn.init.constant_(model.weight, value)
        assert model.running_mean is not None
        assert model.num_batches_tracked is not None
        model.running_mean.fill_(value)
        model.num_batches_tracked.fill_(value)
        average.update_parameters(model)
        inner: Any = average.module
        seen.append(
            (round(float(inner.weight), 6), round(float(inner.running_mean), 6), int(inner.num_batches_tracked))
        )
    return seen


# The figures of the reference implementation, except for WarmUpEMA.
WEIGHTS: list[tuple[type[BaseAveragedModel], dict[str, Any], list[float]]] = [
    (ExponentialMovingAverage, {"momentum": 0.1, "interval": 2}, [1.0, 1.0, 1.2, 1.2, 1.58, 1.58]),
    (StochasticWeightAverage, {}, [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]),
    (MomentumAnnealingEMA, {"momentum": 0.1, "gamma": 2}, [1.0, 1.666667, 2.333333, 3.0, 3.666667, 4.333333]),
    # Computed by hand: the weights of the new values are 1/10, 2/11, then 0.2; the initial average is 1.
    (WarmUpEMA, {"momentum": 0.2, "warm_up": 10}, [1.0, 1.181818, 1.545455, 2.036364, 2.629091, 3.303273]),
]


@pytest.mark.parametrize(("kind", "settings", "expected"), WEIGHTS)
def test_parameters_are_averaged_and_buffers_copied(
    kind: type[BaseAveragedModel], settings: dict[str, Any], expected: list[float]
) -> None:
    seen = averages_of_1_to_6(kind, **settings)
    assert [weight for weight, _, _ in seen] == expected
    assert [mean for _, mean, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert [count for _, _, count in seen] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("buffers", [False, True])
def test_average_is_bit_equal_to_that_of_torch(buffers: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2))
    ours = ExponentialMovingAverage(model, momentum=0.0002, update_buffers=buffers)
    average = get_ema_multi_avg_fn(1 - 0.0002)  # type: ignore[no-untyped-call]
    theirs = AveragedModel(model, multi_avg_fn=average, use_buffers=buffers)
    for _ in range(5):
        with torch.no_grad():
            for each in (*model.parameters(), *model.buffers()):
                each.add_(torch.randn_like(each.float()).to(each.dtype))
        ours.update_parameters(model)
        theirs.update_parameters(model)
    found, expected = ours.module.state_dict(), theirs.module.state_dict()
    floats = [name for name, value in expected.items() if value.is_floating_point()]
    assert len(floats) == 8
    assert all(torch.equal(found[name], expected[name]) for name in floats)


class Student(nn.Module):
    """A model with an averaged model as a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        self.teacher = ExponentialMovingAverage(self.layer, momentum=0.5)

    def learn(self, value: float) -> float:
        """Sets the weight and returns its average."""
        nn.init.constant_(self.layer.weight, value)
        self.teacher.update_parameters(self.layer)
        return float(self.teacher.module.weight)


@pytest.mark.parametrize("assign", [False, True])
def test_averaged_submodule_continues_after_the_model_is_loaded(assign: bool) -> None:
    before, after = Student(), Student()
    before.learn(1.0)
    after.learn(7.0)
    after.load_state_dict(before.state_dict(), assign=assign)
    assert after.learn(3.0) == 2.0


def test_copies_and_pickles_do_not_contain_the_source_model() -> None:
    class Uncopied(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError("a sharded model cannot be copied")

    average, model = ExponentialMovingAverage(nn.Linear(1, 1, bias=False), momentum=0.5), Uncopied(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    average.update_parameters(model)
    for found in (copy.deepcopy(average), pickle.loads(pickle.dumps(average))):
        nn.init.constant_(model.weight, 3.0)
        found.update_parameters(model)
        assert found.module.weight.item() == 2.0
    assert average.module.weight.item() == 1.0


def test_the_average_of_a_sharded_model_has_all_names_of_shared_modules() -> None:
    model = nn.Sequential(OrderedDict(student=(layer := nn.Linear(1, 1)), teacher=layer))
    assert list(_StateCopy(model).state_dict()) == list(model.state_dict())


def test_an_average_may_be_on_another_device() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = ExponentialMovingAverage(model, momentum=0.1, device="meta")
    assert {each.device.type for each in average.module.state_dict().values()} == {"meta"}
    for _ in range(3):
        average.update_parameters(model)  # raises an error if a kernel mixes devices
    assert {each.device.type for each in model.state_dict().values()} == {"cpu"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_an_average_on_the_cpu_agrees_with_one_on_the_accelerator() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).cuda()
    averages = [ExponentialMovingAverage(model, momentum=0.1, device=device) for device in ("cpu", None)]
    for _ in range(5):
        for each in model.parameters():
            nn.init.normal_(each)
        for average in averages:
            average.update_parameters(model)
    states = [average.state_dict() for average in averages]
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name].cpu())


def test_a_subclass_that_averages_itself_keeps_its_number_of_updates() -> None:
    class OfMMYOLO(ExponentialMovingAverage):
        def update_parameters(self, model: nn.Module) -> None:
            for name, average in self.avg_parameters.items():
                average.data.copy_(model.get_parameter(name))
            self.steps += 1

    average = OfMMYOLO(nn.Linear(2, 1))
    for _ in range(3):
        average.update_parameters(nn.Linear(2, 1))
    restored = OfMMYOLO(nn.Linear(2, 1))
    restored.load_state_dict(average.state_dict())
    restored.update_parameters(nn.Linear(2, 1))
    assert (int(average.steps), restored.state_dict()["steps"].item()) == (3, 4)


@pytest.mark.parametrize(("kind", "settings"), [(kind, settings) for kind, settings, _ in WEIGHTS])
def test_infinite_entries_of_buffers_are_copied(kind: type[BaseAveragedModel], settings: dict[str, Any]) -> None:
    inf = torch.inf
    odd: dict[str, list[Any]] = {
        "mask": [torch.tensor([0.0, -inf, inf, 2.0])] * 4,
        "becomes_infinite": [torch.tensor(value) for value in (1.0, 1.0, -inf, inf)],
        "becomes_finite": [torch.tensor(value) for value in (-inf, inf, 3.0, 3.0)],
        "half_precision": [torch.tensor([-inf, 1.0], dtype=torch.float16)] * 4,
        "complex": [torch.tensor([complex(1, inf), 1j])] * 4,
        "empty": [torch.zeros(0)] * 4,
        "whole": [torch.tensor(value) for value in (1, 2, 3, 4)],
    }
    model = nn.Module()
    for name, values in odd.items():
        model.register_buffer(name, values[0].clone())
    average = kind(model, **settings | {"interval": 1}, update_buffers=True)
    for step in range(4):
        for name, values in odd.items():
            getattr(model, name).copy_(values[step])
        average.update_parameters(model)
    for name, values in odd.items():
        assert torch.equal(getattr(average.module, name), values[-1]), name
