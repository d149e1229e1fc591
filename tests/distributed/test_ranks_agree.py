"""Ranks whose own state differs make the same decisions, so that no rank waits for another one forever."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from footplate import Hook, Runner
from footplate.distributed import compute_on_main, get_rank
from footplate.errors import RankError
from footplate.registry import MODELS
from tests.distributed.conftest import OnRanks
from tests.support import ToyModel, settings


@MODELS.register_module()
class ModelWithRareLoss(ToyModel):
    """Rank 1 logs an additional loss in its first iteration only, like a head that sees few objects."""

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        outputs = super().forward(inputs, labels, mode)
        if mode == "loss" and get_rank() == 1 and not hasattr(self, "was_logged"):
            self.was_logged = True
            outputs["loss_rare"] = 0 * outputs["loss"]
        return outputs


class SpoilBuffer(Hook):
    """Makes a buffer of one rank NaN, as a batch with NaN does to batch normalization."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter == 1 and runner.rank == 1:
            runner.model.module.statistics.fill_(float("nan"))


@MODELS.register_module()
class ModelWithBuffer(ToyModel):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("statistics", torch.zeros(2))


def train(folder: Path, **changes: Any) -> Runner:
    runner = Runner(**settings(folder, by_epoch=False, launcher="pytorch", preflight=False, **changes))
    runner.train()
    return runner


def checkpoints_of(folder: Path, **changes: Any) -> list[str]:
    train(folder, **changes)
    return sorted(path.name for path in folder.glob("*.pth"))


def test_loss_that_only_one_rank_has_logged(tmp_path: Path, on_ranks: OnRanks) -> None:
    hooks = {"checkpoint": {"by_epoch": False, "interval": 4}, "logger": {"interval": 2}}
    names = on_ranks(2, lambda: checkpoints_of(tmp_path, model={"type": "ModelWithRareLoss"}, default_hooks=hooks))
    assert "iter_12.pth" in names[0]


def test_no_rank_saves_if_the_weights_of_one_contain_nan(tmp_path: Path, on_ranks: OnRanks) -> None:
    changes = {
        "model": {"type": "ModelWithBuffer"},
        "model_wrapper_cfg": {"type": "MMDistributedDataParallel", "broadcast_buffers": False},
        "custom_hooks": [SpoilBuffer()],
        "on_nonfinite": {"loss": "warn"},
        "val_dataloader": None,
        "val_cfg": None,
        "val_evaluator": None,
    }
    assert on_ranks(2, lambda: checkpoints_of(tmp_path, **changes)) == [[], []]


class StopEarly(Hook):
    """Stops the first call of `train` soon after the fifth iteration."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter == 4:
            runner.train_loop.stop_training = True


def train_twice(folder: Path) -> int:
    runner = train(folder, custom_hooks=[StopEarly()])
    assert runner.iter < 12
    runner.train()
    return runner.iter


def test_train_is_called_again_after_an_early_stop(tmp_path: Path, on_ranks: OnRanks) -> None:
    assert on_ranks(2, train_twice, tmp_path) == [12, 12]


def failure_on_main(error: Callable[[], Exception]) -> str:
    def fail() -> None:
        raise error()

    with pytest.raises((RankError, ValueError)) as caught:
        compute_on_main(fail)
    return f"{type(caught.value).__name__}: {caught.value.args[0]}"


def test_error_that_cannot_be_pickled_reaches_all_ranks(on_ranks: OnRanks) -> None:
    def error() -> Exception:
        found = ValueError("the file is damaged")
        found.file = (number for number in range(3))  # type: ignore[attr-defined]
        return found

    assert on_ranks(2, failure_on_main, error) == [
        "ValueError: the file is damaged",
        "RankError: rank 0 raised ValueError: the file is damaged",
    ]
