"""`max_hours` on several ranks: all of them stop after the same iteration, whichever one reaches the limit first."""

from pathlib import Path

import pytest

from footplate import Runner
from footplate.distributed import get_rank
from footplate.hooks import TimeLimitHook
from tests.footplate.distributed.conftest import OnRanks
from tests.support import settings


def stopped(folder: Path, early: int | None, *, by_epoch: bool) -> tuple[int, bool, float]:
    cfg = settings(folder, by_epoch=by_epoch, launcher="pytorch", preflight=False)
    length = {"max_epochs": 500, "val_interval": 20} if by_epoch else {"max_iters": 1000, "val_interval": 30}
    cfg["default_hooks"] = {"checkpoint": {"by_epoch": by_epoch, "interval": 50}}
    runner = Runner(**{**cfg, "train_cfg": {**length, "max_hours": 1.0}})
    hook = next(each for each in runner_hooks(runner))
    if early is None or get_rank() == early:
        hook.max_hours = 1 / 3600
    runner.train()
    return (
        runner.iter,
        runner.train_loop.out_of_time,
        sum(each.detach().sum().item() for each in runner.model.parameters()),
    )


def runner_hooks(runner: Runner) -> list[TimeLimitHook]:
    runner.build_training()
    return [each for each in runner.hooks if isinstance(each, TimeLimitHook)]


@pytest.mark.parametrize(("early", "by_epoch"), [(0, False), (1, True)])
def test_ranks_stop_together(tmp_path: Path, on_ranks: OnRanks, early: int | None, by_epoch: bool) -> None:
    def call(folder: Path) -> tuple[int, bool, float]:
        return stopped(folder, early, by_epoch=by_epoch)

    first, second = on_ranks(2, call, tmp_path)
    assert first == second
    assert 0 < first[0] < (1000 if not by_epoch else 2000)
    assert first[1]
