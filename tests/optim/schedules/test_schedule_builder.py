"""Building schedules."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD

from footplate.errors import ArgumentError, BuildError, FootplateError, UnknownNameError
from footplate.optim.schedules import LinearLR, PolicyLR, build_param_schedulers
from footplate.optim.schedules.curves import ENDLESS
from footplate.optim.wrappers import OptimWrapper, OptimWrapperDict

STEP = {"type": "StepLR", "step_size": 1}


def sgd() -> SGD:
    return SGD([nn.Parameter(torch.zeros(1))], lr=1.0)


def build(cfg: Any, **lengths: int | None) -> Any:
    return build_param_schedulers(cfg, sgd(), **lengths)


@pytest.mark.parametrize(("cfg", "count"), [(None, 0), ([], 0), (STEP, 1), ([STEP, STEP], 2)])
def test_config_may_be_none_a_dict_or_a_list(cfg: Any, count: int) -> None:
    assert len(build(cfg)) == count


def test_schedule_object_is_returned_unchanged() -> None:
    schedule = LinearLR(sgd(), end=3)
    assert build(schedule) == [schedule]


@pytest.mark.parametrize(
    ("settings", "end"), [({}, 3), ({"by_epoch": False}, 12), ({"end": 2}, 2), ({"begin": 5}, ENDLESS)]
)
def test_default_end_is_that_of_the_run(settings: dict[str, Any], end: int) -> None:
    (schedule,) = build({**STEP, **settings}, max_epochs=3, max_iters=12)
    assert schedule.end == end


def test_epoch_length_is_passed_to_converted_schedules() -> None:
    (schedule,) = build({**STEP, "convert_to_iter_based": True}, max_epochs=3, max_iters=12, epoch_length=4)
    assert (schedule.end, schedule.by_epoch, schedule.family.step_size) == (12, False, 4)


def test_lengths_of_the_run_are_passed_to_policies() -> None:
    (schedule,) = build({"type": "PolicyLR", "policy": "poly"}, max_epochs=3, max_iters=12, epoch_length=4)
    assert isinstance(schedule, PolicyLR)


def test_schedules_of_several_optimizers_by_name() -> None:
    wrapper = OptimWrapperDict(first=OptimWrapper(sgd()), second=OptimWrapper(sgd()))
    built = build_param_schedulers({"first": STEP}, wrapper)
    assert isinstance(built, dict)
    assert list(built) == ["first"]
    assert built["first"][0].optimizer is wrapper["first"].optimizer


def test_one_config_applies_to_all_optimizers() -> None:
    wrapper = OptimWrapperDict(first=OptimWrapper(sgd()), second=OptimWrapper(sgd()))
    built = build_param_schedulers([STEP], wrapper)
    assert isinstance(built, dict)
    assert [len(built[name]) for name in ("first", "second")] == [1, 1]


@pytest.mark.parametrize(
    ("cfg", "error", "key"),
    [
        ([STEP, {"type": "StepLr"}], UnknownNameError, "param_scheduler[1].type"),
        ({"type": "LinearLR", "start_facto": 1}, BuildError, "param_scheduler.start_facto"),
        ([{"type": "StepLR"}], BuildError, "param_scheduler[0].step_size"),
        ({"type": "LinearLR", "begin": 4, "end": 2}, ArgumentError, "param_scheduler.end"),
        ({"type": "PolicyLR", "policy": "stpe"}, ArgumentError, "param_scheduler.policy"),
        ({"type": "LinearParamScheduler", "param_name": "l", "end": 3}, ArgumentError, "param_scheduler.param_name"),
        ("StepLR", BuildError, "param_scheduler"),
        ([3], BuildError, "param_scheduler[0]"),
    ],
)
def test_invalid_schedules_are_refused_with_their_key(cfg: Any, error: type[FootplateError], key: str) -> None:
    with pytest.raises(error) as caught:
        build(cfg, max_epochs=3, max_iters=12, epoch_length=4)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("numpy_cfg", "plain_cfg"),
    [
        ({"type": "MultiStepLR", "milestones": np.array([2, 3])}, {"type": "MultiStepLR", "milestones": [2, 3]}),
        ({"type": "StepLR", "step_size": np.int64(2)}, {"type": "StepLR", "step_size": 2}),
        (
            {"type": "LinearLR", "start_factor": np.float32(0.5), "end": np.int64(4)},
            {"type": "LinearLR", "start_factor": 0.5, "end": 4},
        ),
    ],
)
def test_numpy_numbers_are_accepted(numpy_cfg: dict[str, Any], plain_cfg: dict[str, Any]) -> None:
    values = []
    for cfg in (numpy_cfg, plain_cfg):
        optimizer = sgd()
        built: Any = build_param_schedulers(cfg, optimizer)
        values.append([optimizer.param_groups[0]["lr"]])
        for _ in range(5):
            built[0].step()
            values[-1].append(optimizer.param_groups[0]["lr"])
    assert values[0] == values[1]
    assert values[0][0] != values[0][-1]
