import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.utils.data import get_worker_info

from footplate import DATASETS
from footplate.engine.control.requests import RequestFlags, Requests
from footplate.engine.control.signals import handling_signals
from footplate.engine.loops import base_loops
from footplate.engine.values.activity import Activity
from tests.footplate.engine.resumed_runs import assert_same, config, run, state
from tests.footplate.engine.signaled_runs import IDLE, Draw, Send, in_process
from tests.support import Points, Witness


@pytest.fixture(autouse=True)
def _hearing() -> Iterator[None]:
    """Restores the default signal handlers, since nohup and background jobs make processes ignore signals."""
    usual: dict[int, Any] = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


WHEN = [("before_train_epoch", 0), ("before_train_iter", 7), ("before_val_iter", 8), ("after_train_epoch", 12)]


@pytest.mark.parametrize(("by_epoch", "event", "at"), [(bool(place % 2), *each) for place, each in enumerate(WHEN)])
def test_stopped_run_resumes_bit_exactly(tmp_path: Path, by_epoch: bool, event: str, at: int) -> None:
    number, workers = (signal.SIGTERM, 0) if at % 2 else (signal.SIGINT, 1)
    settings = {"by_epoch": by_epoch, "by_iteration": 3, "accumulate": 2, "workers": workers}
    whole = run(config(tmp_path / "whole", **settings))  # type: ignore[arg-type]
    cfg = config(tmp_path / "told", **settings)  # type: ignore[arg-type]
    code = in_process(run, cfg, Send(number, event, at))
    if code == 0:  # after the last iteration there is nothing left to stop
        assert (event, at) == ("after_train_epoch", 12)
    else:
        assert code == 128 + number
        assert "Nothing was saved yet" not in (tmp_path / "told").rglob("*.log").__next__().read_text()
        assert (tmp_path / "told/last_checkpoint").read_text() == str(tmp_path / "told/on_signal.pth")
        witness = Witness()
        resumed = run(cfg, witness, resume=True)
        assert_same(resumed.model.state_dict(), whole.model.state_dict())
        assert [each for each, _ in witness.when("before_val")] == [each for each in (4, 8, 12) if each >= at]
    assert_same(state(tmp_path / "told/iter_12.pth"), state(tmp_path / "whole/iter_12.pth"))


def test_save_request_saves_after_the_iteration_and_training_continues(tmp_path: Path) -> None:
    whole = run(config(tmp_path / "whole", by_epoch=True), Draw())
    asked = run(config(tmp_path / "asked", by_epoch=True), Send(signal.SIGUSR1, "after_train_iter", 5), Draw())
    assert_same(asked.model.state_dict(), whole.model.state_dict())
    read = torch.load(tmp_path / "asked/on_signal.pth", weights_only=True)
    assert (read["meta"]["iter"], read["run"]["loop"]["epoch"]) == (6, 1)
    witness = Witness()
    cfg = config(tmp_path / "b", by_epoch=True)
    resumed = run(cfg, witness, Draw(), resume=True, load_from=str(tmp_path / "asked/on_signal.pth"))
    assert_same(resumed.model.state_dict(), whole.model.state_dict())
    assert [each for each, _ in witness.when("before_val")] == [8, 12]


def test_second_signal_exits_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cfg = config(tmp_path, by_epoch=True)
    twice = Send(signal.SIGTERM, "after_train_iter", 5, signal.SIGTERM, pause=0.6)
    assert in_process(run, cfg, twice) == 143
    assert not (tmp_path / "on_signal.pth").exists()
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "epoch_1.pth")
    told = capfd.readouterr().err.splitlines()
    assert told == [
        "SIGTERM: finishing the iteration, then saving. Send SIGTERM again to exit at once.",
        "Another stop signal (SIGTERM): exiting at once without saving.",
    ]


def test_interrupted_cell_is_saved_without_an_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT"):
        run(config(tmp_path, by_epoch=True), Send(signal.SIGINT, "after_train_iter", 5))
    assert (tmp_path / "on_signal.pth").exists()


def test_second_interrupt_of_a_notebook_keeps_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(
        "footplate.engine.control.signals.REPEAT_INTERVAL", 0
    )  # the signals follow each other immediately
    with pytest.raises(KeyboardInterrupt):
        run(config(tmp_path, by_epoch=True), Send(signal.SIGINT, "before_val_iter", 4, signal.SIGINT))
    assert not (tmp_path / "on_signal.pth").exists()
    message = "SIGINT: stopping the validation, then saving. Interrupt again to raise KeyboardInterrupt at once."
    assert capfd.readouterr().err.splitlines() == [message]


@pytest.mark.parametrize(
    ("signals", "pause", "code"),
    [
        ((signal.SIGTERM, signal.SIGTERM), 0.0, 143),  # `timeout` sends it to the process and to its group
        ((signal.SIGHUP, signal.SIGHUP, signal.SIGHUP), 0.6, 129),  # from the kernel, the shell, and the exiting shell
    ],
)
def test_simultaneous_signals_are_one_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: tuple[int, ...], pause: float, code: int
) -> None:
    monkeypatch.setattr(
        "footplate.engine.control.signals.REPEAT_INTERVAL", 30
    )  # a busy machine may delay the second signal
    cfg = config(tmp_path, by_epoch=True, workers=1)
    assert in_process(run, cfg, Send(signals[0], "after_train_iter", 5, *signals[1:], pause=pause)) == code
    assert torch.load(tmp_path / "on_signal.pth", weights_only=True)["meta"]["iter"] == 6


@pytest.mark.parametrize("broken", [True, False], ids=["broken", "closed"])
def test_stop_is_saved_although_the_output_is_closed(tmp_path: Path, broken: bool) -> None:
    def unheard() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        for number in (1, 2):
            os.dup2(writer, number) if broken else os.close(number)
        if not broken:
            sys.__stderr__ = None  # type: ignore[misc]
        run(config(tmp_path, by_epoch=True, log_level="INFO"), Send(signal.SIGTERM, "after_train_iter", 5))

    assert in_process(unheard) == 143
    assert torch.load(tmp_path / "on_signal.pth", weights_only=True)["meta"]["iter"] == 6
    log = next(tmp_path.glob("*/*.log")).read_text()  # its descriptor may be that of the closed stream
    assert "exit at once" not in log
    assert "SIGTERM: stopped after iteration 6" in log


def test_forked_process_ends_with_sigterm() -> None:
    with handling_signals(IDLE):  # multiprocessing.Pool, which VOC metrics use, would wait for it forever
        process = multiprocessing.get_context("fork").Process(target=signal.pause)
        process.start()
        process.terminate()
        process.join(10)
        ended = process.exitcode
        process.kill()
    assert ended == -signal.SIGTERM


def test_signal_handlers_are_restored() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(each) for each in numbers]
    with handling_signals(IDLE):
        assert not {signal.getsignal(each) for each in numbers} & set(before)
    assert [signal.getsignal(each) for each in numbers] == before


def test_save_requests_of_ranks_are_neither_lost_nor_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def exchange(requests: torch.Tensor, operation: Any) -> None:
        if requests[1]:
            os.kill(os.getpid(), signal.SIGUSR1)  # during the exchange

    monkeypatch.setattr("torch.distributed.all_reduce", exchange)
    requests = IDLE
    monkeypatch.setattr(requests, "is_single_process", False)
    monkeypatch.setattr(requests, "local", RequestFlags())
    with handling_signals(IDLE):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not requests.agreed.save
        for when in ("as requested", "because of the signal during the exchange"):
            requests.exchange()
            assert requests.agreed.save, when
            requests.agreed.save = False  # the loop saves
        requests.local.save = False
        os.kill(os.getpid(), signal.SIGUSR1)
        requests.exchange()
        os.kill(os.getpid(), signal.SIGUSR1)  # after the agreement, before the loop looks
        assert requests.agreed.save


@DATASETS.register_module()
class Slow(Points):
    """Sends a stop signal at one of its reads, which is then slow. Counts the reads in an existing file."""

    def __init__(self, reads: str, at: int, seconds: float = 60, **options: Any) -> None:
        super().__init__(**options)
        self.reads, self.at, self.seconds = Path(reads), at, seconds

    def __getitem__(self, index: int) -> Any:
        if self.reads.exists() and self._count() == self.at:
            self.reads.unlink()
            os.kill(os.getppid() if get_worker_info() else os.getpid(), signal.SIGTERM)
            until = time.monotonic() + self.seconds
            while time.monotonic() < until:
                time.sleep(0.05)
        return super().__getitem__(index)

    def _count(self) -> int:
        with self.reads.open("a") as file:
            file.write(".")
        return self.reads.stat().st_size


@pytest.mark.parametrize(("by_epoch", "at"), [(True, 15), (False, 1)])
def test_stop_does_not_wait_for_data(tmp_path: Path, by_epoch: bool, at: int) -> None:
    """The slow sample is the last one of the second epoch, or the second one of an endless stream."""

    def cfg(name: str) -> dict[str, Any]:
        found = config(tmp_path / name, by_epoch=by_epoch, by_iteration=3)
        found["train_dataloader"]["num_workers"] = 1
        found["train_dataloader"]["dataset"].update(type="Slow", reads=str(tmp_path / "reads"), at=at)
        return found

    whole = run(cfg("whole"), Draw())
    (tmp_path / "reads").touch()
    begun = time.monotonic()
    assert in_process(run, cfg("part"), Draw()) == 143
    assert time.monotonic() - begun < 50  # the sample takes 60 s
    assert (tmp_path / "part/last_checkpoint").read_text() == str(tmp_path / "part/on_signal.pth")
    resumed = run(cfg("part"), Draw(), resume=True)
    assert_same(resumed.model.state_dict(), whole.model.state_dict())
    assert_same(state(tmp_path / "part/iter_12.pth"), state(tmp_path / "whole/iter_12.pth"))


def told_within(cfg: dict[str, Any], place: Any, name: str, call: int) -> None:
    """Runs, and sends a stop signal at the start of a given call of a function."""
    original, calls = getattr(place, name), [0]

    def function(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    setattr(place, name, function)
    run(cfg)


@pytest.mark.parametrize(
    ("place", "name", "call"), [(base_loops, "capture_rng", 2), (np.random, "set_bit_generator", 6)]
)
def test_stop_does_not_change_random_states(tmp_path: Path, place: Any, name: str, call: int) -> None:
    """The second state is captured at the start of the second epoch; the sixth exchange follows the third batch."""
    whole = run(config(tmp_path / "whole", by_epoch=True, by_iteration=3))
    cfg = config(tmp_path / "part", by_epoch=True, by_iteration=3)
    assert in_process(told_within, cfg, place, name, call) == 143
    assert_same(run(cfg, resume=True).model.state_dict(), whole.model.state_dict())
    assert_same(state(tmp_path / "part/iter_12.pth"), state(tmp_path / "whole/iter_12.pth"))


def test_signal_during_an_exchange_waits_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flags(RequestFlags):
        """The handler of SIGUSR1 runs right after the exchange has read `save`."""

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name == "save" and arrivals:
                self.save = arrivals.pop()
            return value

    monkeypatch.setattr(dist, "all_reduce", lambda *arguments: None)
    requests = Requests(torch.device("cpu"), Activity())
    requests.is_single_process, requests.agreed, requests.local = False, RequestFlags(), Flags()
    arrivals = [True]
    requests.exchange()
    assert not requests.agreed.save
    requests.exchange()
    assert requests.agreed.save
    assert not requests.local.save
