"""Handles signals: requests to stop or save a run, answered between two iterations."""

import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from footplate import storage
from footplate.checkpoint import is_folder, read_contents, remove_checkpoint, write_pointer
from footplate.data import handle_deaths_of_workers, tells_of_lost_worker
from footplate.distributed import barrier, get_rank, is_distributed, is_main_process, rank_monitor
from footplate.engine.hook import Hook
from footplate.errors import CheckpointError
from footplate.records.standard_streams import print_urgent

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
ON_REQUEST = "on_signal.pth"
EARLIER = "on_signal_earlier.pth"
# Functions that read samples or wait for workers. Not their callers, which swap the random state around them.
_READING = (
    ("footplate.data.reading", "_read"),
    ("footplate.data.workers", "_get_data"),
    ("torch.utils.data.dataloader", "_get_data"),
)
# Functions of loops that iterate over a loader, with their callers: a hook may validate within an iteration too.
_ASKING = (("batches",), ("_one_epoch",), ("_evaluate", "run", "_validate"))
_PASSING_ON = "footplate.engine.position"  # its generators stand between these functions and the loader
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_HANGING_UP = getattr(signal, "SIGHUP", None)
_SAVING = getattr(signal, "SIGUSR1", None)
_CHILD_ENDS = getattr(signal, "SIGCHLD", None)
# What a training loop calls between iterations. Anything else it calls belongs to an iteration or a save.
_BETWEEN = ("batches", "call_hook")
_BETWEEN_QUESTIONS = 1.0  # seconds
_AT_ONCE = 0.5  # seconds in which a repeated signal is the same request: `timeout` and others send each twice


class LeavingError(Exception):
    """Ends a run on purpose, on all ranks at once."""


class Interrupted(SystemExit):
    """Ends the process after the run is saved. The exit code is 128 plus the signal's number: 143 for SIGTERM.

    Args:
        number: The number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


class WaitEndedError(BaseException):
    """Raised when a stop is requested while the run waits for a batch: there is no iteration to finish."""


class Requests:
    """Requests to answer after the current iteration.

    A training loop only checks `pending` after each iteration.

    Attributes:
        patient: Whether the current validation must finish first, because its weights are not those of the run.
        rescued: Whether reading data failed and the progress of the run is saved.
    """

    def __init__(self) -> None:
        self.pending = False
        self.patient = False
        self.save = False
        self.stop: int | None = None
        self.rescued = False
        self._saves: list[Callable[[], None]] = []
        self._lost: Exception | None = None
        self._when_child_ends: Any = None
        self._together = False
        self._asked: int | None = None
        self._asked_at: float | None = None  # time of the first SIGINT or SIGTERM
        self._process = os.getpid()

    @property
    def save_at_once(self) -> bool:
        """Whether a save is requested on a single process, which need not wait for other ranks."""
        return self.save and not self._together

    def alarm(self) -> None:
        """Makes the loop check for requests. May be called from any thread."""
        self.pending = True

    def save_after_iteration(self, save: Callable[[], None]) -> None:
        """Schedules `save` for after the current iteration and all of its hooks."""
        self._saves.append(save)
        self.pending = True

    def make_saves(self) -> None:
        """Runs the saves that hooks have scheduled."""
        saves, self._saves = self._saves, []
        for save in saves:
            save()

    @contextmanager
    def from_signals(self) -> Iterator[None]:
        """Handles signals during the block: SIGINT, SIGTERM and SIGHUP request a stop, SIGUSR1 requests a save.

        The second SIGINT or SIGTERM exits at once. A second SIGHUP does not, because a closing terminal can send
        several. SIGHUP is ignored under `nohup`. If a worker of a loader dies, torch raises an error in whatever this
        process does; the error is held back until the end of the iteration. Signals can be handled only in the main
        thread. In other threads nothing changes.
        """
        self.pending, self.save, self.patient, self.rescued = False, False, False, False
        self.stop, self._asked, self._asked_at = None, None, None
        self._process, self._together, self._lost = os.getpid(), is_distributed(), None
        self._saves = []
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers: dict[int, Any] = dict.fromkeys(_STOPPING, self._on_stop)
        if _SAVING is not None:
            handlers[_SAVING] = self._on_save
        if _HANGING_UP is not None and signal.getsignal(_HANGING_UP) != signal.SIG_IGN:
            handlers[_HANGING_UP] = self._on_stop
        if _CHILD_ENDS is not None:
            handle_deaths_of_workers()
            self._when_child_ends = signal.getsignal(_CHILD_ENDS)
            handlers[_CHILD_ENDS] = self._on_end_of_child
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked worker, which ends with its loader
        mine = rank_monitor.current() if self._together else None
        if mine is not None and mine.is_ending:
            return  # another rank has failed, and the launcher ends the remaining ones
        name, again = signal.Signals(number).name, self._asked is not None
        if number in _STOPPING:
            now = time.monotonic()
            if self._asked_at is not None and now - self._asked_at > _AT_ONCE:
                print_urgent(f"{name} again: leaving at once, nothing more is saved", exiting=True)
                os._exit(128 + number)
            self._asked_at = self._asked_at or now
        if again:
            return
        if get_rank() == 0:
            how = "once more" if number in _STOPPING else "SIGTERM twice"
            print_urgent(f"{name}: finishing the iteration, then saving; {how} leaves at once")
        self._asked = number
        if not self._together:
            self.stop, self.pending = number, True
            if not self.patient and _waits_for_data(frame):
                raise WaitEndedError

    def agree(self, device: torch.device, pause: int = 1) -> int:
        """Exchanges the requests of all ranks. All ranks must call it in the same iteration.

        Args:
            device: The device of the exchanged tensor.
            pause: The number of iterations that this rank proposes until the next exchange.

        Returns:
            The number of iterations until the next exchange, the same on all ranks: the smallest proposal.
        """
        wishes = torch.tensor([self._asked or 0, int(self.save), -pause], device=device)
        dist.all_reduce(wishes, dist.ReduceOp.MAX)
        stop, save, least = wishes.tolist()
        self.stop, self.save, self.pending = stop or None, bool(save), self.pending or bool(stop or save)
        return -int(least)

    def _on_end_of_child(self, number: int, frame: FrameType | None) -> None:
        try:
            if callable(self._when_child_ends):
                self._when_child_ends(number, frame)
        except RuntimeError as error:
            is_of_worker = tells_of_lost_worker(error)  # otherwise a user's handler has raised it
            if not is_of_worker or os.getpid() != self._process or not _is_in_iteration(frame):
                raise
            self._lost, self.pending = error.with_traceback(None), True

    def raise_lost(self) -> None:
        """Raises the error of a worker that died during an iteration, once."""
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:
            self.save, self.pending = True, not self._together


class AgreementHook(Hook):
    """Makes all ranks answer a request in the same iteration, whichever rank received it.

    Ranks exchange requests about once per second, so that a batch system need not wait for `interval` long iterations.
    If an iteration takes longer than a second, they exchange requests after every iteration.

    Args:
        interval: The maximum number of iterations between two exchanges.
    """

    priority = "LOWEST"

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self._pause, self._left = 1, 1
        self._since = time.monotonic()

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Exchanges requests with the other ranks when it is time."""
        self._left -= 1
        if self._left == 0:
            now = time.monotonic()
            fitting = int(self._pause * _BETWEEN_QUESTIONS / max(now - self._since, 1e-3))
            wanted = max(1, min(fitting, 2 * self._pause, self.interval))
            self._pause = self._left = runner.requests.agree(runner.device, wanted)
            self._since = now


def _waits_for_data(frame: FrameType | None) -> bool:
    """Checks whether a loop of the engine is waiting for a batch that is being read."""
    within, asks = asking(_outwards(frame))
    return bool(asks) and are_reading(within)


def _is_in_iteration(frame: FrameType | None) -> bool:
    """Checks whether a training step or a save is in progress, and is not reading data itself."""
    stack = list(_outwards(frame))
    called = ""
    for each in reversed(stack):
        if called == "run":
            return each.f_code.co_name not in _BETWEEN and not are_reading(stack)
        called = each.f_code.co_name if _module_of(each) == "footplate.engine.base_train_loop" else ""
    return False


def asking(frames: Iterable[FrameType]) -> tuple[list[FrameType], str]:
    """Returns the frames below the engine, and the loop's function there that requests a batch, or "".

    Args:
        frames: A stack, innermost frame first.
    """
    within: list[FrameType] = []
    callers: list[str] = []
    for frame in frames:
        if _module_of(frame) == _PASSING_ON:
            continue
        if not callers and not _module_of(frame).startswith("footplate.engine."):
            within.append(frame)
        elif len(callers) < max(map(len, _ASKING)):
            callers.append(frame.f_code.co_name)
    return within, callers[0] if any(tuple(callers[: len(each)]) == each for each in _ASKING) else ""


def are_reading(frames: Iterable[FrameType]) -> bool:
    """Checks whether a stack is reading a sample or waiting for a worker."""
    return any((_module_of(frame), frame.f_code.co_name) in _READING for frame in frames)


def _module_of(frame: FrameType) -> str:
    """Returns the name of the module whose code a frame runs."""
    return str(frame.f_globals.get("__name__"))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def answer_requests(runner: "Runner") -> None:
    """Answers the requests that arrived during an iteration: saves, and stops.

    Raises:
        Interrupted: The run was asked to stop, and is saved.
        CheckpointError: A save failed, and `on_save_error` is "stop".
        RuntimeError: A worker died.
    """
    requests = runner.requests
    requests.pending = False
    requests.raise_lost()
    with runner.during("request"):
        requests.make_saves()
    if requests.stop is None and not requests.save:
        runner.saver.settle()
        return
    requests.save, runner.saver.ends = False, requests.stop is not None
    save_on_request(runner)
    if requests.stop is not None:
        runner.saver.settle()
        barrier()  # the launcher may end all ranks as soon as one has exited
        runner.visualizer.close()
        error = Interrupted(requests.stop)
        lost = f"NOT saved, the last checkpoint is {runner.saver.last}"
        saved = "resume goes on from there" if runner.saver.lost is None else lost
        _logger.warning("%s: stopped after iteration %d: %s", error.name, runner.iter, saved)
        raise error


def save_on_request(runner: "Runner") -> str:
    """Starts saving a run between two iterations, as its checkpoint to resume from, and returns the path."""
    folder, name = runner.checkpoint_dir, runner.saver.name_of(ON_REQUEST)
    path = os.path.join(folder, name)
    if is_main_process():
        _set_aside(path, os.path.join(folder, runner.saver.name_of(EARLIER)), runner.iter)
    with runner.during("request"):  # between two iterations, where the loop's own count is correct
        runner.save_checkpoint(folder, name, background=True, then=lambda: write_pointer(runner.home, path))
    _logger.info("saving checkpoint after iteration %d: %s", runner.iter, path)
    return path


def _set_aside(path: str, aside: str, done: int) -> None:
    """Keeps the checkpoint of an earlier run that had come further, in case this run started over by mistake.

    Args:
        path: The checkpoint that would be overwritten.
        aside: The path to move it to. A checkpoint there that had come even further stays.
        done: The number of iterations that this run has completed.
    """
    if not max(done, _progress(aside)) < _progress(path):
        return
    try:
        if not storage.is_local(path):
            raise OSError(errno.ENOTSUP, "only local checkpoints are set aside")
        if is_folder(aside):  # os.replace would replace a file but not a folder
            remove_checkpoint(aside)
        os.replace(path, aside)
        _logger.warning("the checkpoint of an earlier run that had come farther is kept as %s", aside)
    except (OSError, CheckpointError) as error:
        reason = getattr(error, "strerror", None) or error
        _logger.warning("'%s' of an earlier run that had come farther is replaced: %s", path, reason)


def _progress(path: str) -> float:
    """Returns the iteration of a checkpoint, or -1 if there is no readable one."""
    try:
        return float(read_contents(path).meta["iter"])
    except (CheckpointError, KeyError, ValueError):
        return -1.0
