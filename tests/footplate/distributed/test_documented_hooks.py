"""Distributed hooks of MMEngine and MMCV on several ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from footplate import Hook, Runner
from footplate.distributed import get_rank
from tests.footplate.distributed.conftest import OnRanks
from tests.support import ToyModel, loader, settings


class Normed(ToyModel):
    """A model with batch normalization, whose running means depend on the batches of each rank."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))


class Recorder(Hook):
    """Records running means after each epoch, and metrics."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.means: list[list[float]] = []
        self.metrics: list[dict[str, float]] = []

    def after_train_epoch(self, runner: Any) -> None:
        means = next(buffer for name, buffer in runner.model.named_buffers() if name.endswith("running_mean"))
        self.means.append(means.tolist())

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self.metrics.append(dict(metrics))


def run(folder: Path, hooks: list[Any], **changes: Any) -> Recorder:
    recorder = Recorder()
    cfg = settings(
        folder, model=Normed(), custom_hooks=[*hooks, recorder], train_cfg={"by_epoch": True, "max_epochs": 2}
    )
    cfg["default_hooks"] = {"checkpoint": None, "logger": None}
    cfg |= {"launcher": "pytorch" if dist.is_initialized() else "none", "preflight": False, **changes}
    Runner(**cfg).train()
    return recorder


def means(folder: Path, hooks: list[Any]) -> list[list[float]]:
    return run(
        folder,
        hooks,
        model_wrapper_cfg={"broadcast_buffers": False},
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
    ).means


def test_sync_buffers_hook_averages_buffers_after_epoch(tmp_path: Path, on_ranks: OnRanks) -> None:
    own = on_ranks(2, means, tmp_path / "own", [])
    assert own[0] != own[1]
    one, other = on_ranks(2, means, tmp_path / "mean", [{"type": "SyncBuffersHook"}])
    assert one == other
    assert one[0] == pytest.approx([(a + b) / 2 for a, b in zip(own[0][0], own[1][0], strict=True)], rel=1e-6)


def evaluated(folder: Path) -> tuple[int, list[dict[str, float]]]:
    section = loader(7, shuffle=False, batch_size=3)
    hooks = [{"type": "DistEvalHook", "interval": 1, "save_best": "accuracy"}]
    return get_rank(), run(
        folder,
        hooks,
        val_dataloader=section,
        train_dataloader=loader(12, batch_size=12 // (dist.get_world_size() if dist.is_initialized() else 1)),
        sync_bn="torch",
    ).metrics


def test_distributed_evaluation_equals_single_process(tmp_path: Path, on_ranks: OnRanks) -> None:
    _, alone = evaluated(tmp_path / "one")
    assert len(alone) == 2
    for rank, found in on_ranks(3, evaluated, tmp_path / "three"):
        assert found == alone, rank
    assert len(list((tmp_path / "three").glob("best_accuracy_*"))) == 1
