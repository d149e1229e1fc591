import os
import signal
from pathlib import Path
from typing import Any

from footplate import Hook, Runner
from footplate.distributed import get_rank
from tests.footplate.data.own_loaders import OwnState, Seen
from tests.footplate.distributed.conftest import OnRanks
from tests.support import settings


class Send(Hook):
    """Sends a signal to one rank after an iteration."""

    def __init__(self, number: int, rank: int, at: int) -> None:
        self.number, self.rank, self.at = number, rank, at

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.rank == self.rank and runner.iter == self.at:
            os.kill(os.getpid(), self.number)


def run(folder: Path, *hooks: Hook, **changes: Any) -> tuple[Any, int, list[float]]:
    cfg = settings(
        folder,
        by_epoch=False,
        model={"type": "ToyModel", "dropout": 0.3},
        train_cfg={"by_epoch": False, "max_iters": 14, "val_interval": 7},
        default_hooks={"checkpoint": {"by_epoch": False, "interval": 4}},
        randomness={"seed": 7, "diff_rank_seed": True},
        launcher="pytorch",
        custom_hooks=list(hooks),
        **changes,
    )
    runner, code = Runner(**cfg), None
    try:
        runner.train()
    except SystemExit as left:
        code = left.code
    return code, runner.iter, [value for each in runner.model.parameters() for value in each.flatten().tolist()]


def test_signal_stops_all_ranks_and_resume_is_bit_equal(tmp_path: Path, on_ranks: OnRanks) -> None:
    whole = on_ranks(2, run, tmp_path / "whole")
    for rank in (0, 1):
        folder = tmp_path / str(rank)
        stopped = on_ranks(2, run, folder, Send(signal.SIGTERM, rank, 3))
        assert stopped[0][:2] == stopped[1][:2]
        assert stopped[0][0] == 143
        assert 4 <= stopped[0][1] <= 10
        assert (folder / "last_checkpoint").read_text() == str(folder / "on_signal.pth")
        assert on_ranks(2, _resumed, folder) == whole


def _resumed(folder: Path) -> tuple[Any, int, list[float]]:
    return run(folder, resume=True)


def test_save_request_reaches_all_ranks(tmp_path: Path, on_ranks: OnRanks) -> None:
    assert [each[:2] for each in on_ranks(2, run, tmp_path, Send(signal.SIGUSR1, 1, 2))] == [(None, 14)] * 2
    assert (tmp_path / "on_signal.pth").exists()


def train_with_own_state(folder: Path, **changes: Any) -> list[int]:
    class Loader(OwnState):
        def __iter__(self) -> Any:
            for batch in super().__iter__():
                yield {**batch, "inputs": batch["inputs"] + 100 * get_rank()}

    loader: Any = Loader()
    loader.rank = get_rank()  # it reads in another order on each rank
    loader.passes = 10 * loader.rank
    seen = Seen()
    cfg = settings(
        folder / f"{bool(changes)}", by_epoch=False, train_dataloader=loader, val_dataloader=None, val_cfg=None
    )
    cfg |= {"val_evaluator": None, "custom_hooks": [seen], "launcher": "pytorch", "preflight": False, **changes}
    Runner(**cfg).train()
    return seen.samples


def test_each_rank_continues_from_the_state_of_its_own_loader(on_ranks: OnRanks, tmp_path: Path) -> None:
    whole = on_ranks(2, train_with_own_state, tmp_path)
    checkpoint = str(tmp_path / "False" / "iter_4.pth")

    def resume() -> list[int]:
        return train_with_own_state(tmp_path, load_from=checkpoint, resume=True)

    assert whole[0] != whole[1]
    assert on_ranks(2, resume) == [samples[16:] for samples in whole]
