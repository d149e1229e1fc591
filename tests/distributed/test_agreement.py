"""What only one rank knows decides for all ranks, so that none of them waits in a collective forever (decision 037)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate import Hook, Runner
from footplate.checkpoint import load_checkpoint, saver
from footplate.distributed import get_rank
from footplate.engine.run_folder import locked
from footplate.errors import ArgumentError, CheckpointError, NonFiniteError
from footplate.registry import MODELS
from tests.distributed.conftest import OnRanks
from tests.support import ToyModel, settings

NO_VALIDATION = {"val_dataloader": None, "val_cfg": None, "val_evaluator": None}
LENGTH = {"by_epoch": False, "max_iters": 12, "val_interval": 100}


def build(folder: Path, **changes: Any) -> Runner:
    return Runner(**settings(folder, by_epoch=False, launcher="pytorch", **{"preflight": False, **changes}))


@MODELS.register_module()
class TiedModel(ToyModel):
    """Two layers share a weight with one row, of which rank 1 holds an empty shard."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 1, bias=False), nn.Linear(4, 1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        outputs = super().forward(inputs, labels, mode)
        if mode == "loss":
            outputs["loss_tied"] = (self.first(inputs) + self.second(inputs)).square().mean()
        return outputs


def saved_tied_weights(folder: Path) -> list[float]:
    hooks = {"checkpoint": {"by_epoch": False, "sharded": False}}
    wrapper = {"type": "FullyShard"}
    build(folder, model={"type": "TiedModel"}, model_wrapper_cfg=wrapper, default_hooks=hooks, **NO_VALIDATION).train()
    weights = load_checkpoint(folder / "iter_12.pth")["state_dict"]
    assert torch.equal(weights["first.weight"], weights["second.weight"])
    return list(weights["layers.3.bias"].shape)


def test_tied_weights_with_an_empty_shard_are_gathered(tmp_path: Path, on_ranks: OnRanks) -> None:
    assert on_ranks(2, saved_tied_weights, tmp_path) == [[2], [2]]


class RequestValidation(Hook):
    """Requests a validation run on rank 1, as a hook with a clock may do."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.rank == 1 and runner.iter == 1:
            runner.train_loop.validation_requested = True


def validations(folder: Path) -> list[int]:
    runner, done = build(folder, train_cfg=LENGTH, custom_hooks=[RequestValidation()]), list[int]()
    runner.on("after_val", lambda runner: done.append(runner.iter))
    runner.train()
    return done


def test_validation_that_one_rank_has_requested(tmp_path: Path, on_ranks: OnRanks) -> None:
    first, second = on_ranks(2, validations, tmp_path)
    assert first == second
    assert [iteration <= 12 for iteration in first] == [True, True]  # the second one ends the run


@MODELS.register_module()
class ModelWithNanOnRank1(ToyModel):
    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        outputs = super().forward(inputs, labels, mode)
        self.calls = getattr(self, "calls", 0) + 1
        if mode == "loss" and get_rank() == 1 and self.calls == 3:
            outputs["loss"] = outputs["loss"] * float("nan")
        return outputs


def iteration_of_nan(folder: Path) -> int | None:
    with pytest.raises(NonFiniteError) as caught:
        build(folder, model={"type": "ModelWithNanOnRank1"}, train_cfg=LENGTH, **NO_VALIDATION).train()
    return caught.value.iteration


def test_nan_loss_of_one_rank_ends_all_ranks_at_the_next_save(tmp_path: Path, on_ranks: OnRanks) -> None:
    assert on_ranks(2, iteration_of_nan, tmp_path) == [3, 3]


def error_of_locked_folder(folder: Path) -> str:
    runner = build(folder)
    with pytest.raises(ArgumentError) as caught:
        if get_rank() == 0:
            with locked(str(folder)):
                runner.train()
        runner.train()
    return caught.value.message


def test_locked_folder_ends_all_ranks_at_once(tmp_path: Path, on_ranks: OnRanks) -> None:
    assert on_ranks(2, error_of_locked_folder, tmp_path) == [f"another run is using the folder '{tmp_path}'"] * 2


def failing_save(state: Any, path: str) -> None:
    raise CheckpointError("the disk is full")


def files_after_failed_saves(folder: Path) -> list[str]:
    if get_rank() == 0:
        vars(saver)["commit_checkpoint"] = failing_save
    hooks = {"checkpoint": {"by_epoch": False, "published_keys": ["state_dict"]}}
    build(folder, default_hooks=hooks, on_save_error="warn", log_level="ERROR").train()
    return [path.name for path in folder.glob("*.pth")]


def test_nothing_is_published_after_a_failed_save(tmp_path: Path, on_ranks: OnRanks) -> None:
    assert on_ranks(2, files_after_failed_saves, tmp_path) == [[], []]


def error_of_last_save(folder: Path) -> str:
    if get_rank() == 0:
        vars(saver)["commit_checkpoint"] = failing_save
    hooks = {"checkpoint": {"by_epoch": False, "interval": 100}}
    with pytest.raises(CheckpointError) as caught:
        build(folder, default_hooks=hooks, on_save_error="stop", log_level="CRITICAL", **NO_VALIDATION).train()
    return caught.value.message


def test_failure_of_the_last_save_ends_all_ranks(tmp_path: Path, on_ranks: OnRanks) -> None:
    assert on_ranks(2, error_of_last_save, tmp_path) == ["the disk is full"] * 2
