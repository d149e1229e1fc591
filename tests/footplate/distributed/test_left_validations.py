"""Stops in a validation of several ranks, whose loaders may have different numbers of batches."""

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Hook, Runner
from footplate.distributed import get_rank
from footplate.engine.control.requests import Interrupted
from tests.footplate.distributed.conftest import OnRanks
from tests.footplate.distributed.processes import on_processes
from tests.footplate.engine.resumed_runs import assert_same
from tests.support import Counter, Witness, settings

_LENGTH = 100  # batches of the longer loader, each of which takes 0.05 s or more


class Batches(list[Any]):
    """The batches of one rank."""

    rank = 0


class Send(Hook):
    """Sends a signal to its own rank in a validation after four iterations."""

    def __init__(self, number: int, batch: int) -> None:
        self.number, self.batch = number, batch

    def after_val_iter(self, runner: Any, batch_idx: int, **arguments: Any) -> None:  # type: ignore[override]
        time.sleep(0.05 if runner.iter == 4 else 0.0)
        if (runner.iter, batch_idx) == (4, self.batch):
            os.kill(os.getpid(), self.number)


def trained(folder: Path, lengths: tuple[int, int], send: tuple[int, int, int] | None, resume: bool) -> dict[str, Any]:
    """Trains on two ranks, one of which gets a signal at a batch of a validation, and returns what a run has seen."""
    batch = {"inputs": torch.ones(2, 4), "labels": torch.tensor([0, 1])}
    cfg = settings(folder, launcher="pytorch", preflight=False, resume=resume)
    cfg |= {"val_dataloader": Batches([batch] * lengths[get_rank()]), "default_hooks": {"logger": None}}
    runner = Runner(**cfg)
    witness, counter = Witness(), Counter("before_val", "after_val_iter", "after_val")
    for hook in (witness, counter, *([] if send is None or get_rank() != send[0] else [Send(*send[1:])])):
        runner.register_hook(hook)
    code = 0
    try:
        runner.train()
    except Interrupted as error:
        code = int(error.code or 0)
    return {
        "code": code,
        "iter": runner.iter,
        "validated": [iteration for iteration, _ in witness.when("before_val")],
        "batches": sum(iteration == 4 for iteration, _ in witness.when("after_val_iter")),
        "counts": counter.state_dict(),
        "weights": {name: value.clone() for name, value in runner.model.state_dict().items()},
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[int, int]], list[Any]]:
    """Returns what uninterrupted runs on two ranks have seen, by the lengths of their loaders."""
    return functools.cache(
        lambda lengths: on_processes(2, trained, tmp_path_factory.mktemp("whole"), lengths, None, False)
    )


@pytest.mark.parametrize(
    ("short", "sender", "batch", "number"),
    [(0, 1, 20, signal.SIGTERM), (1, 1, 1, signal.SIGTERM), (0, 0, 1, signal.SIGUSR1)],
)
def test_ranks_leave_a_validation_together(
    tmp_path: Path, on_ranks: OnRanks, whole: Any, short: int, sender: int, batch: int, number: int
) -> None:
    lengths = (2, _LENGTH) if short == 0 else (_LENGTH, 2)
    told = on_ranks(2, trained, tmp_path / "told", lengths, (sender, number, batch), False)
    assert [part["code"] for part in told] == [143 if number == signal.SIGTERM else 0] * 2
    if number == signal.SIGTERM:
        assert max(part["batches"] for part in told) < _LENGTH
        assert [part["iter"] for part in told] == [4, 4]
        told = on_ranks(2, trained, tmp_path / "told", lengths, None, True)
        assert [part["validated"] for part in told] == [[4, 6]] * 2
    else:
        assert max(part["batches"] for part in told) < 2 * _LENGTH
        assert [part["validated"] for part in told] == [[2, 4, 4, 6]] * 2
    for part, expected in zip(told, whole(lengths), strict=True):
        assert_same(part["weights"], expected["weights"])
    assert told[0]["counts"] == whole(lengths)[0]["counts"]  # a checkpoint contains the states of hooks on rank 0
