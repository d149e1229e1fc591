import itertools
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from footplate.errors import ArgumentError, BuildError, FootplateError, UnknownNameError
from footplate.optim import schedules
from footplate.optim.schedules import (
    LinearLR,
    PolyParamScheduler,
    Schedule,
    build_param_schedulers,
    named_schedules,
)
from footplate.optim.schedules.base_curve import ENDLESS
from footplate.optim.wrappers import OptimWrapper, OptimWrapperDict
from footplate.registry import PARAM_SCHEDULERS

CURVES = (
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


def test_each_curve_is_registered_for_each_field() -> None:
    for curve, kind in itertools.product(CURVES, ("LR", "Momentum", "ParamScheduler")):
        found: Any = PARAM_SCHEDULERS.get(curve + kind)
        assert issubclass(found, Schedule)


def test_begin_and_end_are_converted_to_iterations() -> None:
    schedule = LinearLR(sgd(), start_factor=0.5, begin=1, end=3, convert_to_iter_based=True, epoch_length=10)
    assert (schedule.begin, schedule.end, schedule.by_epoch) == (10, 30, False)


STEP = {"type": "StepLR", "step_size": 1}


def build(cfg: Any, **lengths: Any) -> Any:
    return build_param_schedulers(cfg, sgd(), **lengths)


@pytest.mark.parametrize(
    ("settings", "end"), [({}, 3), ({"by_epoch": False}, 12), ({"end": 2}, 2), ({"begin": 5}, ENDLESS)]
)
def test_default_end_is_that_of_the_run(settings: dict[str, Any], end: int) -> None:
    (schedule,) = build({**STEP, **settings}, max_epochs=3, max_iters=12)
    assert schedule.end == end


def test_schedules_of_several_optimizers_by_name() -> None:
    wrapper = OptimWrapperDict(first=OptimWrapper(sgd()), second=OptimWrapper(sgd()))
    built = build_param_schedulers({"first": STEP}, wrapper)
    assert isinstance(built, dict)
    assert list(built) == ["first"]
    assert built["first"][0].optimizer is wrapper["first"].optimizer


@pytest.mark.parametrize(
    ("cfg", "error", "key"),
    [
        ([STEP, {"type": "StepLr"}], UnknownNameError, "param_scheduler[1].type"),
        ({"type": "LinearLR", "start_facto": 1}, BuildError, "param_scheduler.start_facto"),
        ({"type": "LinearLR", "begin": 4, "end": 2}, ArgumentError, "param_scheduler.end"),
        ({"type": "PolicyLR", "policy": "stpe"}, ArgumentError, "param_scheduler.policy"),
    ],
)
def test_invalid_schedules_are_refused_with_their_key(cfg: Any, error: type[FootplateError], key: str) -> None:
    with pytest.raises(error) as caught:
        build(cfg, max_epochs=3, max_iters=12, epoch_length=4)
    assert caught.value.key == key


def warnings_of(caplog: pytest.LogCaptureFixture, cfg: Any, **lengths: Any) -> list[str]:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    lengths = {"max_epochs": 12, "max_iters": 120, "epoch_length": 10, **lengths}
    build_param_schedulers(cfg, optimizer, **lengths)
    return [record.getMessage() for record in caplog.records]


def entry(family: str, **settings: Any) -> dict[str, Any]:
    return {"type": f"{family}LR", "by_epoch": False, **settings}


@pytest.mark.parametrize(
    ("cfg", "line"),
    [
        (
            entry("Step", step_size=1, begin=120),
            "StepLR (by iteration) begins at 120, at or after the end of training at 120",
        ),
        (
            [entry("CosineAnnealing", end=50), entry("Poly", begin=50, end=110)],
            "PolyLR (by iteration) ends at 110, before the end of training at 120. After that, "
            "lr stays at 0. If you extend a run, extend the schedule, too, and set "
            "resume_settings='take' (--resume-settings take).",
        ),
    ],
)
def test_schedules_with_another_end_are_warned_about(caplog: pytest.LogCaptureFixture, cfg: Any, line: str) -> None:
    assert warnings_of(caplog, cfg) == [line]


@pytest.mark.parametrize(
    "cfg",
    [
        [entry("OneCycle", eta_max=1.0, end=20), entry("Poly", begin=20, end=120)],
        [entry("Linear", start_factor=0.1, end=21), entry("Poly", end=121)],
        {"type": "ReduceOnPlateauLR", "end": 300},
    ],
)
def test_no_warning_about_usual_schedules(caplog: pytest.LogCaptureFixture, cfg: Any) -> None:
    assert warnings_of(caplog, cfg) == []


def optimizer_of_two_groups() -> SGD:
    first, second = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    groups: list[dict[str, Any]] = [{"params": [first], "lr": 0.2}, {"params": [second]}]
    return SGD(groups, lr=0.4, momentum=0.9)


def test_settings_may_be_positional_in_the_order_of_mmengine() -> None:
    by_position = schedules.PolyLR(optimizer_of_two_groups(), 0.01, 2.0, end=5)
    assert (by_position.eta_min, by_position.power, by_position.end) == (0.01, 2.0, 5)
    momentum = PolyParamScheduler(optimizer_of_two_groups(), "momentum", 0.5, by_epoch=False)
    assert (momentum.param_name, momentum.by_epoch) == ("momentum", False)
    with pytest.raises(TypeError, match="'gamma'"):
        schedules.ExponentialLR(optimizer_of_two_groups())


def test_an_overridden_value_of_a_schedule_is_used() -> None:
    class AtLeast(LinearLR):  # type: ignore[misc]
        def _get_value(self) -> list[float]:
            return [max(value, 0.05) for value in super()._get_value()]

    optimizer = optimizer_of_two_groups()
    schedule = AtLeast(optimizer, start_factor=0.1, end=10)
    assert schedule.get_last_value() == pytest.approx([0.05, 0.05])
    for _ in range(8):
        schedule.step()
    assert schedule.get_last_value() == pytest.approx([0.45, 0.45])  # nine times the first values
    found = LinearLR.build_iter_from_epoch(optimizer, start_factor=0.1, begin=1, end=3, epoch_length=5)
    assert (found.begin, found.end, found.by_epoch) == (5, 15, False)


MINIMA: dict[str, dict[str, Any]] = {
    "PolyLR": {"power": 0.9},
    "CosineAnnealingLR": {},
    "CosineRestartLR": {"periods": [4, 6], "restart_weights": [1, 1]},
    "PolicyLR": {"policy": "poly", "by_epoch": False},
    "torch": {},
}


@settings(deadline=None, max_examples=30)
@given(
    kind=st.sampled_from([*MINIMA]),
    rates=st.lists(st.sampled_from([0.0, 1e-6, 1e-3, 0.01, 0.1, 1.0]), min_size=1, max_size=4),
    minimum=st.sampled_from([0.0, 1e-7, 1e-3, 0.05, 0.1]),
)
def test_group_that_a_minimum_raises_above_its_own_rate_causes_a_warning(
    kind: str, rates: list[float], minimum: float
) -> None:
    """The values of the schedule decide whether there is a warning. They are those of mmcv and MMEngine."""
    optimizer = SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates], lr=1.0)
    cfg: Any = {"type": kind, "by_epoch": False, "eta_min": minimum, **MINIMA[kind]}
    if kind == "torch":
        cfg = CosineAnnealingLR(optimizer, T_max=10, eta_min=minimum)
    elif kind == "PolicyLR":
        cfg["min_lr"] = cfg.pop("eta_min")
    with patch.object(named_schedules, "_logger") as logger:
        built: Any = build_param_schedulers(cfg, optimizer, max_iters=10, counts_epochs=False, epoch_length=5)
        (schedule,) = built
        highest = rates
        optimizer.step()
        for _ in range(9):
            schedule.step()
            highest = [max(pair) for pair in zip(highest, schedule.get_last_value(), strict=True)]
    raised = sum(high > rate * (1 + 1e-9) for high, rate in zip(highest, rates, strict=True))
    groups = f"{raised} parameter group{'s' * (raised > 1)}"
    assert [call.args[0] % call.args[1:] for call in logger.warning.mock_calls] == [
        f"param_scheduler raises the lr of {groups} from {min(rates):g} to its minimum of {minimum:g}, despite "
        "multipliers such as lr_mult. Lower the minimum, or set it as a ratio (eta_min_ratio, min_lr_ratio). To freeze "
        "parameters, use FreezeHook."
    ] * (raised > 0 and len(set(rates)) > 1)
