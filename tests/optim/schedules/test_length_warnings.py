"""Warnings about schedules that do not end together with training."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from footplate.optim.schedules import build_param_schedulers


def warnings_of(caplog: pytest.LogCaptureFixture, cfg: Any, **lengths: int) -> list[str]:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    build_param_schedulers(cfg, optimizer, **{"max_epochs": 12, "max_iters": 120, "epoch_length": 10, **lengths})
    return [record.getMessage() for record in caplog.records]


def entry(family: str, **settings: Any) -> dict[str, Any]:
    return {"type": f"{family}LR", "by_epoch": False, **settings}


@pytest.mark.parametrize(
    ("cfg", "line"),
    [
        (
            entry("Poly", end=200),
            "PolyLR (by iteration) ends at 200, after the end of training at 120; "
            "to end with training, use --set param_scheduler.end=120",
        ),
        (
            entry("Poly", end=100),
            "PolyLR (by iteration) ends at 100, before the end of training at 120; "
            "to end with training, use --set param_scheduler.end=120",
        ),
        (
            entry("Poly", by_epoch=True, end=24),
            "PolyLR (by epoch) ends at 24, after the end of training at 12; "
            "to end with training, use --set param_scheduler.end=12",
        ),
        (
            entry("Poly", by_epoch=True, end=24, convert_to_iter_based=True),
            "PolyLR (by iteration) ends at 240, after the end of training at 120",
        ),
        (
            entry("MultiStep", milestones=[80, 130]),
            "MultiStepLR (by iteration) has a milestone at 130, after the end of training at 120",
        ),
        (
            entry("Step", step_size=1, begin=120),
            "StepLR (by iteration) begins at 120, after the end of training at 120",
        ),
        (
            [entry("Poly", end=50), entry("CosineAnnealing", begin=50, end=110)],
            "CosineAnnealingLR (by iteration) ends at 110, before the end of training at 120; "
            "to end with training, use --set param_scheduler.1.end=120",
        ),
        (
            [entry("Poly", end=50), entry("Poly", by_epoch=True, begin=5, end=11)],
            "PolyLR (by epoch) ends at 11, before the end of training at 12; "
            "to end with training, use --set param_scheduler.1.end=12",
        ),
    ],
)
def test_schedules_with_another_end_are_warned_about(caplog: pytest.LogCaptureFixture, cfg: Any, line: str) -> None:
    assert warnings_of(caplog, cfg) == [line]


@pytest.mark.parametrize(
    "cfg",
    [
        [entry("Linear", start_factor=0.1, end=20), entry("Poly", begin=20, end=120)],
        [entry("Linear", start_factor=0.1, end=20)],
        [entry("Linear", start_factor=0.1, end=21), entry("Poly", end=121)],
        entry("Step", step_size=3),
        entry("MultiStep", by_epoch=True, milestones=[8, 11]),
        [entry("Poly", end=50), entry("Constant", factor=1.0, begin=50, end=120)],
        {"type": "ReduceOnPlateauLR", "end": 300},
    ],
)
def test_no_warning_about_usual_schedules(caplog: pytest.LogCaptureFixture, cfg: Any) -> None:
    assert warnings_of(caplog, cfg) == []


def test_advice_contains_the_name_of_the_optimizer(caplog: pytest.LogCaptureFixture) -> None:
    parts = {name: SGD([nn.Parameter(torch.zeros(1))], lr=1.0) for name in ("left", "right")}
    cfg = {"left": [entry("Poly", end=120), entry("Poly", end=200)], "right": entry("Poly", end=121)}
    build_param_schedulers(cfg, SimpleNamespace(optim_wrappers=parts), max_iters=120)
    assert [record.getMessage().rpartition("; ")[2] for record in caplog.records] == [
        "to end with training, use --set param_scheduler.left.1.end=120"
    ]
