"""`max_hours`: training ends so early that the last validation and the last save are done in time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from footplate import Hook, Runner
from footplate.hooks import stopping_hooks
from tests.support import loader, settings

ITERATION, VALIDATION = 10.0, 20.0  # seconds; a validation has two batches


class Clock(Hook):
    """Advances the clock by fixed times for each iteration and each validation batch."""

    priority = "VERY_HIGH"

    def __init__(self) -> None:
        self.now = 0.0
        self.validated_at: list[tuple[int, float]] = []

    def before_train_iter(self, runner: Runner) -> None:  # type: ignore[override]
        self.now += ITERATION

    def before_val_iter(self, runner: Runner) -> None:  # type: ignore[override]
        self.now += VALIDATION / 2

    def after_val_epoch(self, runner: Runner) -> None:  # type: ignore[override]
        self.validated_at.append((runner.iter, self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stopping_hooks, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def run(folder: Path, clock: Clock | None, seconds: float | None, *, by_epoch: bool, **changes: Any) -> Runner:
    cfg = settings(folder, by_epoch=by_epoch, **{key: value for key, value in changes.items() if key != "train_cfg"})
    cfg["train_cfg"] = {**cfg["train_cfg"], **changes.get("train_cfg", {})}
    if seconds is not None:
        cfg["train_cfg"]["max_hours"] = seconds / 3600
    runner = Runner(**cfg, custom_hooks=[clock] if clock is not None else [])
    runner.train()
    return runner


def weights(runner: Runner) -> list[float]:
    return torch.cat([each.detach().flatten() for each in runner.model.parameters()]).tolist()


@pytest.mark.parametrize(("by_epoch", "seconds"), [(False, 75.0), (True, 75.0), (True, 1.0)])
def test_run_ends_in_time_and_resumes_exactly(tmp_path: Path, clock: Clock, by_epoch: bool, seconds: float) -> None:
    whole = run(tmp_path / "whole", None, None, by_epoch=by_epoch)
    stopped = run(tmp_path / "limited", clock, seconds, by_epoch=by_epoch)
    assert 0 < stopped.iter < whole.iter
    assert stopped.train_loop.out_of_time
    assert clock.validated_at[-1][0] == stopped.iter  # validated at the end
    assert len({at for at, _ in clock.validated_at}) == len(clock.validated_at)  # and not twice
    assert {"loss", "val/accuracy"} <= stopped.history[-1].keys()
    if seconds > ITERATION + VALIDATION:  # otherwise, one iteration and one validation are the least
        assert clock.now <= seconds
        assert clock.now + 2 * ITERATION + 2.25 * VALIDATION > seconds  # little time is left
    resumed = run(tmp_path / "limited", Clock(), None, by_epoch=by_epoch, resume=True)
    assert (resumed.iter, weights(resumed)) == (whole.iter, weights(whole))


def test_time_for_the_validation_of_all_datasets_is_reserved(tmp_path: Path, clock: Clock) -> None:
    loaders = {"clean": loader(8, shuffle=False), "noisy": loader(24, shuffle=False)}
    changes: dict[str, Any] = {"val_dataloader": loaders, "train_cfg": {"val_interval": 50}}
    stopped = run(tmp_path, clock, 190.0, by_epoch=False, **changes)
    assert "val/noisy/accuracy" in stopped.history[-1]
    assert stopped.iter < 12
    assert clock.now <= 190


def test_resumed_run_has_the_whole_time_again(tmp_path: Path, clock: Clock) -> None:
    whole = run(tmp_path / "whole", None, None, by_epoch=False)
    iterations: list[int] = []
    while not iterations or iterations[-1] < whole.iter:
        clock.validated_at.clear()
        iterations.append(run(tmp_path / "limited", clock, 130.0, by_epoch=False, resume=bool(iterations)).iter)
    assert len(iterations) > 1
    assert iterations == sorted(set(iterations))


def test_slow_saves_are_considered(tmp_path: Path, clock: Clock) -> None:
    none = dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator"))
    cfg = {**settings(tmp_path, by_epoch=False), **none, "custom_hooks": [clock]}
    runner = Runner(**{**cfg, "train_cfg": {**cfg["train_cfg"], "max_hours": 8 * ITERATION / 3600}})
    runner.saver.seconds = 2 * ITERATION
    runner.train()
    assert runner.iter == 2  # one more iteration and 2 * 1.25 * 2 iterations for saving
