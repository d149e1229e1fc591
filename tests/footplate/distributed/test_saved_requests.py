"""Requests of any rank are saved, even if the ranks have not exchanged them yet."""

from pathlib import Path

from footplate import Runner
from footplate.checkpoint import load_checkpoint
from footplate.distributed import get_rank
from tests.footplate.distributed.conftest import OnRanks
from tests.support import settings


def trained(folder: Path) -> int:
    cfg = settings(folder, launcher="pytorch", preflight=False)
    cfg["default_hooks"] = {"checkpoint": {"by_epoch": False, "interval": 1}}
    runner = Runner(**cfg)

    @runner.on("after_train_iter")
    def request(runner: Runner) -> None:
        if runner.iter == 0 and get_rank() == 1:
            runner.train_loop.stop_training = True

    runner.train()
    return runner.iter


def test_requests_of_all_ranks_are_saved(tmp_path: Path, on_ranks: OnRanks) -> None:
    length = 16 // (2 * 4)
    assert on_ranks(2, trained, tmp_path) == [length, length]
    assert load_checkpoint(str(tmp_path / "iter_1.pth"))["run"]["loop"]["stop_requested"] is True
