from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from footplate import Hook, Runner
from footplate.hooks import SyncBuffersHook, housekeeping_hooks
from tests.support import settings

QUIET: dict[str, Any] = {"checkpoint": None, "logger": None}


class Rates(Hook):
    """Records the learning rate of each iteration."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.seen: list[float] = []

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.seen.append(runner.optim_wrapper.param_groups[0]["lr"])


def rates(tmp_path: Path, by_epoch: bool, **changes: Any) -> list[float]:
    hook = Rates()
    cfg = settings(tmp_path, by_epoch=by_epoch, custom_hooks=[hook], default_hooks=QUIET, **changes)
    Runner(**{**cfg, "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 1.0}}}).train()
    return hook.seen


def test_several_schedules(tmp_path: Path) -> None:
    schedules = [
        {"type": "LinearLR", "start_factor": 0.5, "end": 2, "by_epoch": False},
        {"type": "MultiStepLR", "milestones": [1], "gamma": 0.1, "by_epoch": True},
    ]
    assert rates(tmp_path, True, param_scheduler=schedules) == pytest.approx([0.5, 1.0, 1.0, 1.0] + [0.1] * 8)


def test_cache_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(housekeeping_hooks, "empty_cache", lambda: calls.append(1))
    cfg = settings(
        tmp_path,
        custom_hooks=[{"type": "EmptyCacheHook", "before_epoch": True, "after_epoch": False, "after_iter": True}],
    )
    Runner(**{**cfg, "train_cfg": {"by_epoch": True, "max_epochs": 2}}).train()
    assert len(calls) == 2 + 2 + 2 * 4 + 2 * 2  # epochs, then iterations, each of training and validation


@pytest.mark.parametrize(("distributed", "mean"), [(True, 2.0), (False, 1.0)])
def test_buffers_are_averaged_over_ranks(monkeypatch: pytest.MonkeyPatch, distributed: bool, mean: float) -> None:
    model = nn.BatchNorm1d(1)
    assert model.running_mean is not None
    assert model.num_batches_tracked is not None
    model.running_mean.fill_(1.0)
    model.num_batches_tracked.fill_(4)

    def all_reduce(tensor: torch.Tensor) -> None:
        tensor.add_(3.0)  # adds the value of the other rank

    monkeypatch.setattr(housekeeping_hooks, "is_distributed", lambda: True)
    monkeypatch.setattr(housekeeping_hooks, "get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", all_reduce)
    runner: Any = SimpleNamespace(model=model)
    SyncBuffersHook(distributed=distributed).after_train_epoch(runner)
    assert model.running_mean.item() == mean
    assert model.num_batches_tracked.item() == 4
