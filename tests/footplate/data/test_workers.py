import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, get_worker_info

from footplate import Runner
from footplate.data import SampleLoader, build_dataloader, explain_worker_death
from footplate.engine.control.process_setup import prepare
from footplate.engine.control.requests import Interrupted
from footplate.engine.values.events import EventName
from footplate.errors import ArgumentError, DataError
from tests.support import settings

SIGNALS = [signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP]  # `timeout` sends it twice


@contextlib.contextmanager
def explain_worker_deaths(loaders: Any) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        death = explain_worker_death(error, loaders)
        if death is None:
            raise
        raise death from error


class Fatal(Dataset[Any]):
    """Runs a function in the worker that reads sample 5."""

    def __init__(self, deed: str) -> None:
        self.deed = deed

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        if index == 5 and get_worker_info() is not None:
            if self.deed == "interrupt":
                raise KeyboardInterrupt
            if self.deed == "wait":
                time.sleep(30)
            if self.deed == "hang":
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # as when hanging in C code
                time.sleep(300)
            if self.deed == "go":
                os._exit(0)
            named = [getattr(signal, self.deed)] if self.deed.startswith("SIG") else []
            for number in SIGNALS if self.deed == "signal" else named:
                os.kill(os.getpid(), number)
        return {"inputs": torch.zeros(4), "labels": index % 2}


def make(deed: str, **options: Any) -> SampleLoader:
    return SampleLoader(Fatal(deed), batch_size=2, num_workers=2, **options)


def record_error(path: Path, work: Callable[[], Any]) -> None:
    try:
        work()
    except DataError as error:
        path.write_text(str(error))
        os._exit(0)  # torch may raise the error again at any point


def report_in_a_process(path: Path, work: Callable[[], Any]) -> list[str]:
    """Returns the lines of the DataError that a function raises in a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=record_error, args=(path / "report", work))
    process.start()
    process.join()
    return (path / "report").read_text().splitlines()


@pytest.mark.parametrize(
    ("way", "name", "hint"),
    [
        ("train", "SIGKILL", "The machine may have run out of memory"),
        ("alone", "SIGSEGV", "To locate a crash in compiled code"),
    ],
)
def test_a_killed_worker_is_reported_with_its_signal_and_sample(tmp_path: Path, way: str, name: str, hint: str) -> None:
    loader = make(name)

    def work() -> None:
        if way == "alone":
            read(loader)
        else:
            Runner(**settings(tmp_path, train_dataloader=loader)).train()

    lines = [line for line in report_in_a_process(tmp_path, work) if "The run was saved" not in line]
    first, second, *hints = lines
    assert first == "a data loader worker died (last sample begun: 5)"
    killed = f": killed by a signal: {signal.strsignal(signal.Signals[name])}"
    # On a busy machine, torch may notice the death before the kernel reports its signal.
    assert killed in second or "exited without an exception, for example through os._exit() or a crash" in second
    assert hints[0].strip().startswith(hint if killed in second else "To locate a crash in compiled code")


def test_a_worker_that_exits_silently_is_reported() -> None:
    with pytest.raises(DataError, match="last sample begun: 5") as caught:
        read(make("go", timeout=1))
    assert caught.value.notes[0].endswith("or a crash")


def test_an_interrupt_in_a_worker_is_an_error() -> None:
    with pytest.raises(DataError, match="sample 5 of the dataset 'Fatal' cannot be read: KeyboardInterrupt"):
        read(make("interrupt", timeout=30))


def test_unresponsive_workers_are_reported_with_their_samples() -> None:
    loader = make("wait", timeout=1)
    with (
        pytest.raises(DataError, match=r"returned no batch within 1 s \(last samples begun: \d+, \d+\)"),
        explain_worker_deaths([loader]),
    ):
        list(loader)


def test_workers_that_hang_are_killed(tmp_path: Path) -> None:
    loader = make("hang", timeout=1, persistent_workers=True)
    assert loader.worker_progress is not None
    with pytest.raises(DataError) as caught:
        Runner(**settings(tmp_path, train_dataloader=loader)).train()
    assert "Increase the data loader's `timeout`, or set it to 0 to wait indefinitely." in caught.value.notes
    for process in loader.worker_progress.samples():
        assert not os.path.exists(f"/proc/{process}") or "Z" in Path(f"/proc/{process}/stat").read_text().split()[2]
    assert len(list(make("nothing"))) == 8  # other loaders still work


@pytest.mark.parametrize("event", ["before_train_iter", "before_train_epoch"])  # the latter: while it waits for a batch
def test_an_interrupted_run_continues_in_the_same_process(tmp_path: Path, event: EventName) -> None:
    loader = make("nothing", persistent_workers=True)
    runner = Runner(**settings(tmp_path, train_dataloader=loader))

    states, signals = [], [signal.SIGINT]

    def interrupt(runner: Runner) -> None:
        states.append(torch.get_rng_state())
        if runner.iter == 8 and signals:
            os.kill(os.getpid(), signals.pop())

    runner.on(event, interrupt)
    with pytest.raises(Interrupted) as stopped:  # the traceback keeps the workers' iterator alive
        runner.train()
    torch.rand(7)  # in another cell of a notebook
    subprocess.run(["true"], check=True)
    runner.train()
    assert runner.iter == 24
    assert stopped.value.code == 130
    assert all(torch.equal(state, states[0]) for state in states)


def read(loader: SampleLoader) -> None:
    with explain_worker_deaths([loader]):
        list(loader)


def test_workers_have_a_default_timeout() -> None:
    def timeout(**section: Any) -> float:
        built: SampleLoader = build_dataloader({"dataset": Fatal("nothing"), **section})
        return built.timeout

    assert [timeout(num_workers=1), timeout(num_workers=1, timeout=0), timeout()] == [600, 0, 0]
    assert timeout(num_workers=1, timeout=np.float64(3)) == 3
    with pytest.raises(ArgumentError, match="the data loader cannot be built: timeout option should be non-negative"):
        timeout(num_workers=1, timeout=-1)


class OpenCVThreads(Dataset[Any]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return cv2.getNumThreads()


def test_workers_use_one_thread_of_opencv_and_runs_restore_the_number() -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        threads = []
        for context, workers in (("fork", {}), ("spawn", {"opencv_num_threads": 2}), ("fork", {})):
            prepare({"mp_cfg": workers}, launcher="none")
            section = {"dataset": OpenCVThreads(), "num_workers": 1, "multiprocessing_context": context}
            (batch,) = build_dataloader(section)
            threads.append((batch[0], cv2.getNumThreads()))
        assert threads == [(1, 3), (2, 2), (1, 3)]
    finally:
        cv2.setNumThreads(before)


def test_workers_start_after_opencv_has_used_threads() -> None:
    """Such a worker crashes or waits forever if OpenCV still has threads when the process forks."""
    script = """
    import cv2
    import numpy as np
    from footplate.data import build_dataloader

    cv2.setNumThreads(4)
    image = np.zeros((4000, 4000, 3), np.uint8)
    for code in (cv2.COLOR_BGR2HSV, cv2.COLOR_BGR2GRAY, cv2.COLOR_BGR2Lab):
        cv2.cvtColor(image, code)
    cv2.warpAffine(image, np.eye(2, 3), (4000, 4000))

    class Warped:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            cv2.setNumThreads(threads)
            return cv2.warpAffine(image, np.eye(2, 3), (4000, 4000)).shape[2]

    section = dict(dataset=Warped(), num_workers=1, timeout=20, multiprocessing_context="fork")
    for threads in (1, 4, 1, 4):
        print(list(build_dataloader(section)), cv2.getNumThreads())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=90)
    assert done.stdout == "[[3]] 4\n" * 4, done.stderr


@pytest.mark.slow
def test_a_process_exits_silently_with_persistent_workers_and_an_abandoned_pass() -> None:
    script = """
import torch
from footplate.data import SampleLoader
loader = SampleLoader(torch.arange(100), batch_size=2, num_workers=2, persistent_workers=True)
for batch in loader: pass
rest = iter(loader); next(rest)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_workers_of_a_killed_process_exit_although_the_pipe_is_full() -> None:
    script = """
import os, signal, time, torch
from footplate.data import SampleLoader
loader = SampleLoader(torch.zeros(400, 4000), batch_size=8, num_workers=2, prefetch_factor=4)
rest = loader.batches(); next(rest)
time.sleep(1)
print(*loader.worker_progress.samples(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    workers, end = done.stdout.split(), time.monotonic() + 30
    while any(os.path.exists(f"/proc/{worker}") for worker in workers) and time.monotonic() < end:
        time.sleep(0.2)
    assert [worker for worker in workers if os.path.exists(f"/proc/{worker}")] == []
