"""Ranks whose own state differs make the same decisions, so that no rank waits for another one forever."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate import Hook, Runner
from footplate.checkpoint import load_checkpoint, saver
from footplate.distributed import compute_on_main, get_rank
from footplate.engine.control.run_folder import locked
from footplate.errors import ArgumentError, CheckpointError, NonFiniteError, RankError
from footplate.registry import MODELS
from tests.footplate.distributed.conftest import OnRanks
from tests.support import ToyModel, settings

NO_VALIDATION = {"val_dataloader": None, "val_cfg": None, "val_evaluator": None}
LENGTH = {"by_epoch": False, "max_iters": 12, "val_interval": 100}


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

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter == 1 and runner.rank == 1:
            runner.model.module.statistics.fill_(float("nan"))


@MODELS.register_module()
class ModelWithBuffer(ToyModel):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("statistics", torch.zeros(2))


def build(folder: Path, **changes: Any) -> Runner:
    return Runner(**settings(folder, by_epoch=False, launcher="pytorch", preflight=False, **changes))


def train(folder: Path, **changes: Any) -> Runner:
    runner = build(folder, **changes)
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
        **NO_VALIDATION,
    }
    assert on_ranks(2, lambda: checkpoints_of(tmp_path, **changes)) == [[], []]


class StopEarly(Hook):
    """Stops the first call of `train` soon after the fifth iteration, and decides so on rank 1 only."""

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.rank == 1 and runner.iter == 4:
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

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
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


def error_of_nan(folder: Path) -> tuple[str, str]:
    with pytest.raises(NonFiniteError) as caught:
        build(folder, model={"type": "ModelWithNanOnRank1"}, train_cfg=LENGTH, **NO_VALIDATION).train()
    return caught.value.message, caught.value.notes[0]


@MODELS.register_module()
class ModelWithNanGradientOnRank1(ToyModel):
    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        outputs = super().forward(inputs, labels, mode)
        if mode == "loss":
            zero = 0 * next(self.parameters()).sum()
            outputs["loss"] = outputs["loss"] + (zero.sqrt() if get_rank() == 1 else zero)
        return outputs


def error_of_nan_gradient(folder: Path) -> str:
    model = {"type": "ModelWithNanGradientOnRank1"}
    with pytest.raises(NonFiniteError) as caught:
        build(folder, model=model, train_cfg=LENGTH, on_nonfinite={"grad": "stop"}, **NO_VALIDATION).train()
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


def test_nan_gradient_of_one_rank_does_not_blame_the_samples_of_another(tmp_path: Path, on_ranks: OnRanks) -> None:
    for rank, error in enumerate(on_ranks(2, error_of_nan_gradient, tmp_path)):
        assert "the gradients in iteration 1 are non-finite" in error
        assert f"The batch of rank {rank} in iteration 1 contains samples" in error
        assert "The cause may also be in the batch of another rank." in error


def test_nan_loss_of_one_rank_ends_all_ranks_at_the_next_save(tmp_path: Path, on_ranks: OnRanks) -> None:
    results = on_ranks(2, error_of_nan, tmp_path)
    assert [message for message, _ in results] == ["the loss was nan in iteration 3"] * 2
    assert all("another rank" in note for _, note in results)


def error_of_locked_folder(folder: Path) -> str:
    runner = build(folder)
    lock = locked(str(folder)) if get_rank() == 0 else nullcontext()
    with lock, pytest.raises(ArgumentError) as caught:
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
