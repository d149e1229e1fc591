"""The registered schedule classes."""

import inspect
import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from footplate.errors import ArgumentError, BuildError
from footplate.optim import schedules
from footplate.optim.schedules import LinearLR, MultiStepMomentum, ParamSchedule, PolyParamScheduler
from footplate.registry import PARAM_SCHEDULERS

FAMILIES = (
    "Constant",
    "Linear",
    "Exponential",
    "Step",
    "MultiStep",
    "Poly",
    "CosineAnnealing",
    "CosineRestart",
    "OneCycle",
    "ReduceOnPlateau",
    "QuadraticWarmup",
)


def sgd() -> SGD:
    return SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9, weight_decay=0.1)


@pytest.mark.parametrize(("family", "kind"), list(itertools.product(FAMILIES, ("LR", "Momentum", "ParamScheduler"))))
def test_each_family_is_registered_for_each_field(family: str, kind: str) -> None:
    entry = PARAM_SCHEDULERS.get(family + kind)
    assert inspect.isclass(entry)
    assert issubclass(entry, ParamSchedule)
    assert entry.__name__ == family + kind or family == "ReduceOnPlateau"


def test_name_of_the_class_selects_the_field() -> None:
    optimizer = sgd()
    MultiStepMomentum(optimizer, milestones=[0], gamma=0.5)
    PolyParamScheduler(optimizer, param_name="weight_decay", end=3).step()
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (1.0, 0.45, 0.05)


def test_begin_and_end_are_converted_to_iterations() -> None:
    schedule = LinearLR(sgd(), start_factor=0.5, begin=1, end=3, convert_to_iter_based=True, epoch_length=10)
    assert (schedule.begin, schedule.end, schedule.by_epoch) == (10, 30, False)


def test_missing_end_is_not_converted() -> None:
    schedule = schedules.StepLR(sgd(), step_size=2, convert_to_iter_based=True, epoch_length=10)
    assert schedule.end == schedules.curves.ENDLESS


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"by_epoch": False, "epoch_length": 3}, "convert_to_iter_based"),
        ({}, "convert_to_iter_based"),
    ],
)
def test_invalid_conversions_are_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        LinearLR(sgd(), end=3, convert_to_iter_based=True, **settings)
    assert caught.value.key == key


def test_unknown_argument_is_refused_with_a_suggestion() -> None:
    with pytest.raises(BuildError) as caught:
        LinearLR(sgd(), start_facto=0.5)
    assert (caught.value.key, caught.value.suggestion) == ("start_facto", "start_factor")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (LinearLR, {"optimizer", "start_factor", "end_factor"}),
        (PolyParamScheduler, {"optimizer", "param_name", "power", "eta_min"}),
    ],
)
def test_signature_lists_all_arguments(name: type[ParamSchedule], arguments: set[str]) -> None:
    shared = {"begin", "end", "by_epoch", "last_step", "verbose", "convert_to_iter_based", "epoch_length"}
    assert set(inspect.signature(name).parameters) == arguments | shared


def test_param_schedulers_need_param_name() -> None:
    with pytest.raises(BuildError, match="param_name"):
        PARAM_SCHEDULERS.build({"type": "PolyParamScheduler"}, sgd())
