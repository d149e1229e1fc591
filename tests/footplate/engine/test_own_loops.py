"""Custom loops that override methods with the signatures of mmengine's loops."""

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import LOOPS, Hook, Runner
from footplate.engine import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, TestLoop, ValLoop
from footplate.engine.control.requests import Interrupted
from footplate.errors import ArgumentError, BuildError
from tests.footplate.engine.own_loops import (
    BY_EPOCH,
    BY_ITERATION,
    SkippingRun,
    UnseenDataRun,
    WholeEpoch,
    WholeRun,
    WholeRunByIteration,
)
from tests.support import Witness, settings, weights


class StoppedError(Exception):
    pass


class StopAt(Hook):
    """Ends the run after an iteration, once its checkpoint is written."""

    def __init__(self, at: int) -> None:
        self.at = at

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter == self.at:
            runner.saver.wait()
            raise StoppedError


class TermAt(Hook):
    """Sends SIGTERM to the run during an iteration."""

    def __init__(self, at: int) -> None:
        self.at = at

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def runner_with(folder: Path, kind: type | None, *, by_epoch: bool, **changes: Any) -> Runner:
    cfg = settings(folder, by_epoch=by_epoch, model={"type": "ToyModel", "dropout": 0.3})
    cfg["default_hooks"] = {"checkpoint": {"by_epoch": False, "interval": 3}}
    if kind is not None:
        cfg["train_cfg"] = {**cfg["train_cfg"], "type": kind.__name__}
        cfg["train_cfg"].pop("by_epoch")
    return Runner(**{**cfg, **changes})


def trained(folder: Path, kind: type | None, *, by_epoch: bool, **changes: Any) -> list[Any]:
    """Trains, and returns the weights and the sequence of events that any loop calls."""
    witness = Witness()
    runner = runner_with(folder, kind, by_epoch=by_epoch, **changes)
    runner.register_hook(witness)
    runner.train()
    ours = ("before_save_checkpoint", "after_validation")
    return [weights(runner), [each for each in witness.seen if each[0] not in ours]]


CASES = [*[(kind, True) for kind in BY_EPOCH], *[(kind, False) for kind in BY_ITERATION]]
NAMES = [kind.__name__ for kind, _ in CASES]


@pytest.mark.parametrize("kind", [WholeEpoch, WholeRun])
def test_the_epoch_of_a_failed_validation_is_saved(tmp_path: Path, kind: type) -> None:
    runner = runner_with(tmp_path, kind, by_epoch=True, default_hooks={"checkpoint": {"interval": 1}})

    def fail(runner: Runner) -> None:
        if runner.epoch == 2:
            raise StoppedError

    runner.on("before_val", fail)
    with pytest.raises(StoppedError):
        runner.train()
    assert sorted(each.stem for each in tmp_path.glob("*.pth")) == ["epoch_1", "epoch_2"]


def test_loop_is_adapted_although_a_script_has_wrapped_its_iterations(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, WholeEpoch, by_epoch=True)
    loop: Any = runner.train_loop
    original = loop.run_iter
    loop.run_iter = lambda *args: original(*args)
    runner.on("before_train_iter", lambda runner: os.kill(os.getpid(), signal.SIGTERM) if runner.iter == 4 else None)
    with pytest.raises(Interrupted):
        runner.train()
    assert (runner.iter, (tmp_path / "on_signal.pth").exists()) == (5, True)


@pytest.mark.parametrize(("kind", "by_epoch"), CASES, ids=NAMES)
def test_overridden_loop_gives_the_same_weights(tmp_path: Path, kind: type, by_epoch: bool) -> None:
    own = trained(tmp_path / "own", kind, by_epoch=by_epoch)
    assert own == trained(tmp_path / "plain", None, by_epoch=by_epoch)


@pytest.mark.parametrize(
    ("kind", "by_epoch"),
    [case for case in CASES if case[0] is not WholeEpoch],
    ids=[n for n in NAMES if n != "WholeEpoch"],
)
def test_overridden_loop_resumes_bit_exactly_within_an_epoch(tmp_path: Path, kind: type, by_epoch: bool) -> None:
    with pytest.raises(StoppedError):
        trained(tmp_path / "own", kind, by_epoch=by_epoch, custom_hooks=[StopAt(7)])
    resumed = runner_with(tmp_path / "own", kind, by_epoch=by_epoch, resume=True)
    resumed.train()
    plain = runner_with(tmp_path / "plain", None, by_epoch=by_epoch)
    plain.train()
    assert weights(resumed) == weights(plain)


@pytest.mark.parametrize(
    ("kind", "by_epoch", "says"),
    [
        (WholeEpoch, True, "so epoch 2 restarts from"),
        (UnseenDataRun, False, "so the data restarts from"),
    ],
)
def test_inexact_resume_logs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: type, by_epoch: bool, says: str
) -> None:
    with pytest.raises(StoppedError):
        trained(tmp_path, kind, by_epoch=by_epoch, custom_hooks=[StopAt(7)])
    resumed = runner_with(tmp_path, kind, by_epoch=by_epoch, resume=True)
    with caplog.at_level(logging.WARNING):
        resumed.train()
    assert says in caplog.text
    assert resumed.iter == 12


def test_loop_that_skips_batches_itself_raises(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        trained(tmp_path, SkippingRun, by_epoch=False, custom_hooks=[StopAt(7)])
    with pytest.raises(ArgumentError, match="skips the batches of the 6 completed iterations a second time"):
        runner_with(tmp_path, SkippingRun, by_epoch=False, resume=True).train()


@pytest.mark.parametrize(("kind", "by_epoch"), [(WholeEpoch, True), (WholeRunByIteration, False)])
def test_stop_request_is_answered_after_the_iteration(tmp_path: Path, kind: type, by_epoch: bool) -> None:
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        trained(tmp_path, kind, by_epoch=by_epoch, custom_hooks=[TermAt(6)])
    resumed = runner_with(tmp_path, None, by_epoch=by_epoch, resume=True)
    resumed.load_or_resume()
    assert resumed.iter == 6


def in_evaluation(kind: Any) -> tuple[type, type, type]:
    """Returns three loops: one overrides `run_iter`, one `run`, and one both, with another argument for `run_iter`."""
    mode = kind.mode

    class OwnIteration(kind):  # type: ignore[misc]
        @torch.no_grad()
        def run_iter(self, idx: int, data_batch: Any) -> None:
            self.runner.call_hook(f"before_{mode}_iter", batch_idx=idx, data_batch=data_batch)
            with torch.autocast("cpu", enabled=self.fp16):
                outputs = getattr(self.runner.model, f"{mode}_step")(data_batch)
            self.evaluator.process(data_samples=outputs, data_batch=data_batch)
            self.runner.call_hook(f"after_{mode}_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)

    class OwnRun(kind):  # type: ignore[misc]
        arguments: tuple[str, ...] = ()

        def run(self) -> Any:
            self.runner.call_hook(f"before_{mode}")
            self.runner.call_hook(f"before_{mode}_epoch")
            self.runner.model.eval()
            for idx, data_batch in enumerate(self.dataloader):
                self.run_iter(idx, data_batch, *self.arguments)
            metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
            self.runner.call_hook(f"after_{mode}_epoch", metrics=metrics)
            self.runner.call_hook(f"after_{mode}")
            return metrics

    class OwnArguments(OwnRun):
        arguments = ("student",)

        def run_iter(self, idx: int, data_batch: Any, model: str) -> None:
            super().run_iter(idx, data_batch)

    return OwnIteration, OwnRun, OwnArguments


@pytest.mark.parametrize(
    ("base", "place", "fp16"),
    [(ValLoop, 0, True), (ValLoop, 1, False), (ValLoop, 2, False), (TestLoop, 0, False), (TestLoop, 2, False)],
)
def test_overridden_evaluation_loop_gives_the_same_metrics(tmp_path: Path, base: Any, place: int, fp16: bool) -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    class Notes(Hook):
        def _after_iter(self, runner: Any, *_: Any, mode: str = "train", **__: Any) -> None:
            if mode != "train":
                seen.append((torch.is_grad_enabled(), torch.get_autocast_dtype("cpu")))

    kind = in_evaluation(base)[place]
    LOOPS.register_module(module=kind, force=True)
    found = []
    for name in (kind.__name__, base.__name__):
        witness = Witness()
        cfg = settings(tmp_path / name, custom_hooks=[witness, Notes()])
        cfg[f"{base.mode}_cfg"] = {"type": name, "fp16": fp16}
        runner = Runner(**cfg)
        metrics = runner.val() if base is ValLoop else runner.test()
        found.append((metrics, witness.seen))
    assert found[0] == found[1]
    assert {enabled for enabled, _ in seen} == {False}


WRONG: list[tuple[Any, str, Callable[..., Any], str]] = [
    (EpochBasedTrainLoop, "run_iter", lambda self, data_batch: None, "run_iter(self, idx, data_batch)"),
    (ValLoop, "run_iter", lambda self, data_batch: None, "run_iter(self, idx, data_batch)"),
]


@pytest.mark.parametrize(("base", "method", "body", "expected"), WRONG, ids=[f"{w[0].__name__}.{w[1]}" for w in WRONG])
def test_loop_method_with_wrong_signature_raises(
    tmp_path: Path, base: Any, method: str, body: Callable[..., Any], expected: str
) -> None:
    LOOPS.register_module(module=type("Wrong", (base,), {method: body}), force=True)
    key = {"ValLoop": "val_cfg", "TestLoop": "test_cfg"}.get(base.__name__, "train_cfg")
    cfg = settings(tmp_path, by_epoch=base is not IterBasedTrainLoop)
    cfg[key] = {**cfg[key], "type": "Wrong"}
    cfg[key].pop("by_epoch", None)
    runner = Runner(**cfg)
    with pytest.raises(ArgumentError, match=rf"Wrong.{method} does not accept the arguments") as caught:
        runner.test() if key == "test_cfg" else runner.train()
    assert caught.value.key == key
    assert caught.value.notes == (f"expected: {expected}",)


@pytest.mark.parametrize("kind", [*BY_EPOCH, *BY_ITERATION])
def test_training_begins_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    sessions: list[object] = []
    begin = kind.begin  # type: ignore[attr-defined]
    monkeypatch.setattr(kind, "begin", lambda loop: [begin(loop), sessions.append(loop.session)])  # type: ignore[func-returns-value]
    length = {"max_epochs": 2} if kind in BY_EPOCH else {"max_iters": 8}
    runner = Runner(**settings(tmp_path, by_epoch=kind in BY_EPOCH, train_cfg={"type": kind.__name__, **length}))
    runner.train()
    assert sessions == [runner.train_loop.session]


@LOOPS.register_module()
class OnlyRuns(BaseLoop):
    def run(self) -> None:
        """Does nothing."""


def test_training_loop_must_have_a_length(tmp_path: Path) -> None:
    cfg = settings(tmp_path, train_cfg={"type": "OnlyRuns"})
    with pytest.raises(BuildError, match="OnlyRuns must set _max_epochs and _max_iters") as caught:
        Runner.from_cfg(cfg).train()
    assert caught.value.key == "train_cfg.type"
    made = OnlyRuns(Runner(**settings(tmp_path)), [1])
    with pytest.raises(BuildError, match="the loop must be derived from BaseTrainLoop"):
        Runner(**{**cfg, "train_cfg": made}).train()


def test_hook_that_reads_a_batch_after_an_iteration_does_not_lose_it(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    class Read(Hook):
        def after_train_iter(self, runner: Any, **_: Any) -> None:  # type: ignore[override]
            next(runner.train_loop.dataloader_iterator)
            seen.append((runner.iter, runner.completed.iter))

    runner = Runner(**settings(tmp_path, by_epoch=False, custom_hooks=[Read()], default_hooks={"checkpoint": None}))
    runner.train()
    assert seen == [(number, number + 1) for number in range(12)]


def test_constructing_a_loop_does_not_move_the_run(tmp_path: Path) -> None:
    class Early(IterBasedTrainLoop):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._iter = 0
            super().__init__(*args, **kwargs)

    class Build(Hook):
        def before_train_epoch(self, runner: Any) -> None:
            if runner.epoch == 1:
                runner.build_train_loop({"type": "IterBasedTrainLoop", "max_iters": 1})

    runner = Runner(**settings(tmp_path, custom_hooks=[Build()]))
    runner.train()
    first = runner.train_loop
    assert (runner.iter, first.finished) == (12, True)
    runner.train_loop = Early(runner, first.dataloader, max_iters=2)
    assert (runner.iter, runner.train_loop.finished) == (0, False)
    runner.train_loop = first
    assert (runner.iter, first.finished) == (12, True)
