import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, get_worker_info
from torch.utils.data._utils import worker as torch_worker

from footplate import Runner
from footplate.data import SampleLoader, build_dataloader, explain_worker_deaths
from footplate.data.shared_memory import PackedBatch
from footplate.data.workers import WorkerInit, _MonitoringIterator
from footplate.errors import ArgumentError, DataError
from tests.support import settings

SIGNALS = [signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP]  # `timeout` sends it twice
ENDS = {"take": MemoryError(), "interrupt": KeyboardInterrupt(), "leave": SystemExit(0), "close": GeneratorExit()}


class Fatal(Dataset[Any]):
    """Runs a function in the worker that reads sample 5."""

    def __init__(self, deed: str) -> None:
        self.deed = deed

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        if index == 5 and get_worker_info() is not None:
            if self.deed == "wait":
                time.sleep(30)
            if self.deed == "hang":
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # as when hanging in C code
                time.sleep(300)
            if self.deed == "go":
                os._exit(0)
            if self.deed in ENDS:
                raise ENDS[self.deed]
            named = [getattr(signal, self.deed)] if self.deed.startswith("SIG") else []
            numbers = {"kill": [signal.SIGKILL], "signal": SIGNALS}
            for number in numbers.get(self.deed, named):
                os.kill(os.getpid(), number)
        return {"inputs": torch.zeros(4), "labels": index % 2}


class Slow(Dataset[int]):
    """Reads the second sample slowly, by default longer than the interval between two checks of the worker."""

    def __init__(self, seconds: float = 2.3, begun: Any = None) -> None:
        self.seconds, self.begun = seconds, begun

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        if index == 1 and self.begun is not None:
            self.begun.set()
        time.sleep(self.seconds * (index == 1))
        return index


def make(deed: str, **options: Any) -> SampleLoader:
    return SampleLoader(Fatal(deed), batch_size=2, num_workers=2, **options)


def record_error(path: Path, work: Callable[[], Any]) -> None:
    try:
        work()
    except DataError as error:
        path.write_text(str(error))
        os._exit(0)  # torch may raise the error again at any point


@pytest.mark.parametrize("way", ["train", "test", "alone"])
def test_a_dead_worker_is_reported_with_its_sample(tmp_path: Path, way: str) -> None:
    loader = make("kill")

    def work() -> None:
        if way == "alone":
            read(loader)
        else:
            changes: dict[str, Any] = {f"{way}_dataloader": loader}
            getattr(Runner(**settings(tmp_path, **changes)), way)()

    process = multiprocessing.get_context("fork").Process(target=record_error, args=(tmp_path / "told", work))
    process.start()
    process.join()
    lines = (tmp_path / "told").read_text().splitlines()
    assert lines[0] == "a worker of the data loader died while it read sample 5"
    assert lines[1].startswith("  process ")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SIGSEGV", "Compiled code crashed."),
        ("SIGABRT", "Compiled code crashed."),
        ("SIGBUS", "Shared memory (/dev/shm) may be full."),
        ("SIGKILL", "If the kernel killed it "),
        ("SIGXCPU", None),
    ],
)
def test_the_signal_that_killed_a_worker_is_reported(tmp_path: Path, name: str, hint: str | None) -> None:
    loader = make(name)
    process = multiprocessing.get_context("fork").Process(
        target=record_error, args=(tmp_path / "told", lambda: read(loader))
    )
    process.start()
    process.join()
    first, second, *more = (tmp_path / "told").read_text().splitlines()
    assert first == "a worker of the data loader died while it read sample 5"
    assert f": killed by {name} ({signal.strsignal(signal.Signals[name])})" in second
    assert [line.strip().startswith(hint or "") for line in more] == ([True] if hint else [])


@pytest.mark.parametrize("options", [{"timeout": 600}, {}, {"timeout": 600, "persistent_workers": True}])
def test_a_worker_that_exits_silently_is_reported_within_seconds(options: dict[str, Any]) -> None:
    begun = time.monotonic()
    with pytest.raises(DataError, match="a worker of the data loader died while it read sample 5") as caught:
        read(make("go", **options))
    assert time.monotonic() - begun < 60
    assert (
        caught.value.notes[1]
        == "It exited without an error, for example through os._exit() or exit() in compiled code."
    )


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_that_exit_after_their_epoch_are_not_reported(persistent: bool) -> None:
    loader = make("nothing", timeout=600, persistent_workers=persistent)
    for _ in range(3):
        batches = list(loader)
        time.sleep(1.2 * (not persistent))  # longer than the interval between two checks
        assert len(batches) == 8


@pytest.mark.parametrize("workers", [1, 2])
def test_a_slow_sample_is_waited_for(workers: int) -> None:
    loader = SampleLoader(Slow(), batch_size=1, num_workers=workers, timeout=30)
    assert [int(batch) for batch in loader] == [0, 1, 2]


def test_persistent_workers_finish_an_abandoned_pass() -> None:
    loader = SampleLoader(Slow(), batch_size=1, num_workers=1, timeout=30, persistent_workers=True)
    assert int(next(iter(loader))) == 0  # the worker reads the next one slowly
    assert [int(batch) for batch in loader] == [0, 1, 2]


def test_a_batch_is_unpacked_before_the_next_is_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    unpack, ask = PackedBatch.unpack, _MonitoringIterator._try_put_index

    def unpacking(self: PackedBatch, known: dict[object, torch.Tensor]) -> Any:
        done.append("unpacked")
        return unpack(self, known)

    def asking(self: Any) -> None:
        done.append("asked")
        ask(self)

    monkeypatch.setattr(PackedBatch, "unpack", unpacking)
    monkeypatch.setattr(_MonitoringIterator, "_try_put_index", asking)
    ahead = 2
    loader = SampleLoader(range(3), num_workers=1, prefetch_factor=ahead)
    assert [batch.tolist() for batch in loader.batches()] == [[0], [1], [2]]
    assert done == [*["asked"] * ahead, *["unpacked", "asked"] * 3]


def test_a_dead_pinning_thread_is_an_error() -> None:
    waiting = object.__new__(_MonitoringIterator)
    vars(waiting).update(_timeout=0, _pin_memory=True, _pin_memory_thread=threading.Thread(), _shutdown=True)
    vars(waiting).update(_try_get_data=lambda seconds: (False, None))
    with pytest.raises(RuntimeError, match="Pin memory thread exited unexpectedly"):
        waiting._get_data()


def test_suspended_time_does_not_count_towards_the_timeout() -> None:
    """The timeout of workers excludes the time in which the run was suspended."""

    def work() -> None:
        batches = list(SampleLoader(Slow(7.5, begun), batch_size=1, num_workers=1, timeout=5))
        os._exit(len(batches))

    context = multiprocessing.get_context("fork")
    begun = context.Event()
    process = context.Process(target=work)
    process.start()
    assert process.pid is not None
    assert begun.wait(60)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(6.0)
    os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert process.exitcode == 3


def test_unresponsive_workers_are_reported_with_their_samples() -> None:
    loader = make("wait", timeout=1)
    with (
        pytest.raises(DataError, match=r"returned no batch in 1 s; they were reading samples \d+, \d+"),
        explain_worker_deaths([loader]),
    ):
        list(loader)


def test_workers_that_hang_are_killed(tmp_path: Path) -> None:
    loader = make("hang", timeout=1, persistent_workers=True)
    assert loader.worker_progress is not None
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        Runner(**settings(tmp_path, train_dataloader=loader)).train()
    assert time.monotonic() - started < 60  # a hanging one would wait for 300
    assert caught.value.notes[0] == "Increase the `timeout` of the data loader, or set it to 0 to wait without a limit."
    for process in loader.worker_progress.processes():
        assert not os.path.exists(f"/proc/{process}") or "Z" in Path(f"/proc/{process}/stat").read_text().split()[2]
    assert len(list(make("nothing"))) == 8  # other loaders still work


@pytest.mark.parametrize(("deed", "error"), [(deed, type(error).__name__) for deed, error in ENDS.items()])
def test_any_exception_of_a_worker_is_reported_with_its_sample(deed: str, error: str) -> None:
    with pytest.raises(DataError, match=f"sample 5 of the dataset 'Fatal' cannot be read: {error}"):
        list(make(deed, timeout=10))


@pytest.mark.parametrize(
    ("signal_name", "hint"),
    [
        ("Killed", "If the kernel killed it for lack of memory, use fewer workers."),
        ("Bus error", "Shared memory (/dev/shm) may be full. Use fewer workers or a lower prefetch_factor."),
    ],
)
def test_the_probable_cause_of_death_is_reported(signal_name: str, hint: str) -> None:
    loader, nobody = make("nothing"), 1 << 30
    assert loader.worker_progress is not None
    loader.worker_progress.record(1, nobody, 7, 3)
    with pytest.raises(DataError, match="died while it read sample 3") as caught, explain_worker_deaths([loader]):
        raise RuntimeError(f"DataLoader worker (pid {nobody}) is killed by signal: {signal_name}. ")
    assert caught.value.notes[1] == hint


def read(loader: SampleLoader) -> None:
    with explain_worker_deaths([loader]):
        list(loader)


def test_workers_have_a_default_timeout() -> None:
    def timeout(**section: Any) -> float:
        built: SampleLoader = build_dataloader({"dataset": Fatal("nothing"), **section})
        return built.timeout

    assert [timeout(num_workers=1), timeout(num_workers=1, timeout=0), timeout()] == [600, 0, 0]
    assert timeout(num_workers=1, timeout=np.float64(3)) == 3
    with pytest.raises(ArgumentError, match="timeout must be a number of seconds") as caught:
        timeout(num_workers=1, timeout=-1)
    assert caught.value.key == "timeout"


def test_workers_ignore_signals_for_the_run() -> None:
    assert len(list(make("signal"))) == 8


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), EOFError(), FileNotFoundError(2, "socket")])
def test_a_worker_that_dies_while_it_sends_a_batch_is_reported(tmp_path: Path, error: Exception) -> None:
    def work() -> None:
        loader = make("wait")
        assert loader.worker_progress is not None
        with explain_worker_deaths([loader]):
            batches = iter(loader)
            next(batches)
            os.kill(loader.worker_progress.processes()[0], signal.SIGKILL)
            raise error

    process = multiprocessing.get_context("fork").Process(target=record_error, args=(tmp_path / "told", work))
    process.start()
    process.join()
    assert (tmp_path / "told").read_text().startswith("a worker of the data loader died while it read sample ")


def test_other_errors_are_unchanged() -> None:
    with pytest.raises(RuntimeError, match="^own mistake$"), explain_worker_deaths([make("nothing"), [1]]):
        raise RuntimeError("own mistake")
    with pytest.raises(FileNotFoundError, match="own file"), explain_worker_deaths([[1]]):
        raise FileNotFoundError("own file")


def test_the_worker_init_fn_of_the_user_is_called() -> None:
    begun: Any = torch.zeros(2).share_memory_()  # type: ignore[no-untyped-call]

    def begin(worker: int) -> None:
        begun[worker] += 1

    list(make("nothing", worker_init_fn=begin))
    assert begun.tolist() == [1, 1]


@pytest.mark.parametrize("begins_late", [False, True])
def test_a_worker_exits_when_its_main_process_dies(begins_late: bool) -> None:
    pipes = os.pipe(), os.pipe()
    (reader, writer), (end_reader, end_writer) = pipes
    main = multiprocessing.get_context("fork").Process(target=_start_and_die, args=(*pipes, begins_late))
    main.start()
    os.close(writer)
    main.join()
    assert main.exitcode == -signal.SIGKILL
    assert os.read(reader, 1) == b"x"
    alive, _, _ = select.select([reader], [], [], 20)
    for descriptor in (end_reader, end_writer):
        os.close(descriptor)
    assert alive
    assert os.read(reader, 1) == b""  # the worker's end is closed
    os.close(reader)


def _start_and_die(pipe: tuple[int, int], end: tuple[int, int], begins_late: bool) -> None:
    loader = make("nothing")
    assert loader.worker_progress is not None
    start = WorkerInit(None, loader.worker_progress)
    processes = multiprocessing.get_context("fork")
    processes.Process(target=_begin, args=(start, pipe[1], begins_late)).start()
    # A second worker inherits what tells the first one that this process is alive.
    processes.Process(target=_outlive, args=(pipe[1], end)).start()
    select.select([pipe[0]], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


def _begin(start: WorkerInit, writer: int, begins_late: bool) -> None:
    if not begins_late:
        start(0)
    os.write(writer, b"x")
    main = multiprocessing.parent_process()
    while main is not None and os.getppid() == main.pid:
        time.sleep(0.01)
    if begins_late:
        start(0)
    while torch_worker.ManagerWatchdog().is_alive():  # torch starts checking only now
        time.sleep(0.01)


def _outlive(writer: int, end: tuple[int, int]) -> None:
    os.close(writer)
    os.close(end[1])
    os.read(end[0], 1)  # returns when the test has closed the other end


def test_a_missing_temporary_folder_is_reported_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    monkeypatch.delitem(multiprocessing.current_process()._config, "tempdir", raising=False)  # type: ignore[attr-defined]
    with pytest.raises(FileNotFoundError) as caught:
        make("nothing")
    assert str(caught.value.filename).startswith(str(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("options", "reads"),
    [({"persistent_workers": True}, "for batch in loader: pass"), ({}, "rest = iter(loader); next(rest)")],
)
def test_a_process_exits_silently_with_persistent_workers_or_an_abandoned_pass(
    options: dict[str, Any], reads: str
) -> None:
    script = f"""
import torch
from footplate.data import SampleLoader
loader = SampleLoader(torch.arange(100), batch_size=2, num_workers=2, **{options})
{reads}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
