"""Handles signals that request a stop or a save, and saves a run on request or when its data cannot be read.

The run's loop handles the requests between iterations.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from footplate.checkpoint import write_pointer
from footplate.data import data_wait, install_worker_death_handler, is_worker_death
from footplate.distributed import barrier, get_rank, is_distributed
from footplate.engine.hook import Hook, Phase
from footplate.error_context import add_note
from footplate.records.logger import print_urgent

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
ON_REQUEST = "on_signal.pth"
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME_REQUEST = 0.5  # seconds in which a repeated signal is the same request: `timeout` and others send each twice
SECONDS_BETWEEN_EXCHANGES = 1.0  # of the requests of ranks; see `RequestExchangeHook`


class EarlyExitError(Exception):
    """Ends a run on purpose, on all ranks at once."""


class Interrupted(SystemExit):
    """Ends the process after the run is saved. The exit code is 128 plus the signal's number: 143 for SIGTERM.

    Args:
        number: The number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


class InterruptedWaitError(BaseException):
    """Raised when a stop is requested while the run waits for a batch, so there is no iteration to finish."""


class Requests:
    """The requests that a loop answers after the current iteration.

    A training loop checks only `pending` after each iteration. Signal handlers record what this process is asked to do.
    With several ranks, only `exchange` turns that into `save` and `stop`, so these are the same on all ranks.

    Attributes:
        pending: Whether there are requests to answer.
        save: Whether to save.
        stop: The number of the signal for which to stop, or None.
        must_finish_evaluation: Whether a stop must wait for the end of the current evaluation, because hooks have
            replaced the weights of the model, or because a hook has started the evaluation.
        evaluations: The number of running evaluations. A hook may start an evaluation during another one.
        scheduled_saves: The saves that hooks have scheduled for after the current iteration.
        stop_wanted: Whether a hook of this rank has set `stop_training` of the training loop.
        stop_agreed: Whether a hook of any rank had set it at the latest exchange.
        nears_limit: Whether the time limit of training is near, according to the clock of this rank.
        out_of_time: Whether all ranks have agreed to end training because of its time limit.
        lost_worker: The error of a worker that died during the current iteration, or None.
        saved_after_error: Whether reading data failed and the progress of the run is saved.
        can_save_after_error: Whether the run is saved when reading data fails. A trial is not.
    """

    def __init__(self) -> None:
        self.evaluations = 0
        self.can_save_after_error = True
        self.stop_wanted = self.stop_agreed = False
        self._reset()

    def _reset(self) -> None:
        self.pending = self.save = self.must_finish_evaluation = self.saved_after_error = False
        self.stop: int | None = None
        self.scheduled_saves: list[Callable[[], None]] = []
        self.lost_worker: Exception | None = None
        self.nears_limit = self.out_of_time = False
        self._asked_saves = self._exchanged_saves = 0  # counts, because a signal may arrive at any instruction
        self._asked_stop: int | None = None
        self._first_stop_at: float | None = None  # time of the first SIGINT or SIGTERM
        self._process, self._has_ranks = os.getpid(), is_distributed()
        self._runner: Runner | None = None
        self._previous_on_child: Any = None
        data_wait.missed_request = None

    @property
    def save_at_once(self) -> bool:
        """Whether a save is requested and there is only one process, so that the save need not wait for other ranks."""
        return self.save and not self._has_ranks

    def alarm(self) -> None:
        """Makes the loop check for requests. May be called from any thread."""
        self.pending = True

    def save_after_iteration(self, save: Callable[[], None]) -> None:
        """Schedules `save` for after the current iteration and all of its hooks."""
        self.scheduled_saves.append(save)
        self.pending = True

    def end_training(self) -> None:
        """Requests the end of training because of its time limit.

        With several ranks, training ends after the next exchange of requests.
        """
        self.nears_limit = True
        if not self._has_ranks:
            self.out_of_time = self.pending = True

    @contextmanager
    def from_signals(self, runner: "Runner") -> Iterator[None]:
        """Handles signals during the block: SIGINT, SIGTERM and SIGHUP request a stop, SIGUSR1 requests a save.

        The second SIGINT or SIGTERM exits at once. A second SIGHUP does not, because a closing terminal can send
        several. SIGHUP is ignored under `nohup`. If a worker of a loader dies, torch raises an error at an arbitrary
        point of this process. This error is deferred until the end of the iteration. Signals can be handled only in
        the main thread; in other threads, this method has no effect.

        Args:
            runner: The runner, whose phase decides whether a stop may end the wait for a batch.
        """
        self._reset()
        self._runner = runner
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers: dict[int, Any] = dict.fromkeys(_STOP_SIGNALS, self._on_stop)
        if hasattr(signal, "SIGUSR1"):  # Windows lacks this signal and the next two
            handlers[signal.SIGUSR1] = self._on_save
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            handlers[signal.SIGHUP] = self._on_stop
        if hasattr(signal, "SIGCHLD"):
            install_worker_death_handler()
            self._previous_on_child = signal.getsignal(signal.SIGCHLD)
            handlers[signal.SIGCHLD] = self._on_end_of_child
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            data_wait.missed_request = None

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self._asked_saves += 1
        if not self._has_ranks and os.getpid() == self._process:
            self.save = self.pending = True

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked worker, which ends with its loader
        name, now = signal.Signals(number).name, time.monotonic()
        if number in _STOP_SIGNALS:
            if self._first_stop_at is not None and now - self._first_stop_at > _SAME_REQUEST:
                print_urgent(f"{name} again: exiting at once. Nothing more is saved.")
                os._exit(128 + number)
            self._first_stop_at = self._first_stop_at or now
        if self._asked_stop is None:
            self._asked_stop = number
            if not self._has_ranks:
                self._begin_stop(number)
                data_wait.missed_request = self._interrupt_wait
                self._interrupt_wait()

    def _begin_stop(self, number: int) -> None:
        self.stop = number
        self.pending = True
        if get_rank() == 0:
            name = signal.Signals(number).name
            again = f"{name} again" if number in _STOP_SIGNALS else "SIGTERM twice"
            print_urgent(f"{name}: finishing the iteration, then saving. Send {again} to exit at once.")

    def _on_end_of_child(self, number: int, frame: FrameType | None) -> None:
        try:
            if callable(self._previous_on_child):
                self._previous_on_child(number, frame)
        except RuntimeError as error:
            is_of_worker = is_worker_death(error)  # otherwise a user's handler has raised it
            if not is_of_worker or os.getpid() != self._process or self._claim_interruption():
                raise
            self.lost_worker, self.pending = error.with_traceback(None), True

    def _interrupt_wait(self) -> None:
        if self._claim_interruption():
            raise InterruptedWaitError

    def _claim_interruption(self) -> bool:
        """Returns whether a handler may raise an error now: the run waits for a batch, and no step is in progress.

        The next call returns False until the run waits for another batch.
        """
        phase = self._runner.phase if self._runner is not None else None
        if phase is not Phase.DATA_LOADING and phase is not Phase.EVALUATION_DATA_LOADING:
            return False
        may_raise = data_wait.is_interruptible and not self.must_finish_evaluation
        data_wait.is_interruptible = data_wait.is_interruptible and not may_raise
        return may_raise

    def exchange(self, device: torch.device, pause: int = 1) -> int:
        """Exchanges the requests of all ranks. All ranks must call this method in the same iteration.

        A signal that arrives during the exchange counts for the next one.

        Args:
            device: The device of the exchanged tensor.
            pause: The number of iterations until the next exchange, as proposed by this rank.

        Returns:
            The number of iterations until the next exchange, the same on all ranks: the smallest proposal.
        """
        asked_saves = self._asked_saves
        own = [
            self._asked_stop or 0,
            asked_saves > self._exchanged_saves,
            self.nears_limit,
            self.stop_wanted,
            -pause,
        ]
        self._exchanged_saves = asked_saves
        requests = torch.tensor(own, dtype=torch.int64, device=device)
        dist.all_reduce(requests, dist.ReduceOp.MAX)
        stop, save, out_of_time, stop_agreed, pause = requests.tolist()
        self.stop_agreed = bool(stop_agreed)
        if stop and self.stop is None:
            self._begin_stop(stop)
        if save:  # an earlier agreement may not have been answered yet
            self.save = self.pending = True
        if out_of_time:
            self.out_of_time = self.pending = True
        return -pause


class RequestExchangeHook(Hook):
    """Makes all ranks answer a request in the same iteration, no matter which rank received it.

    Ranks exchange requests about once per second, but at least every 10 iterations. If an iteration takes longer than a
    second, they exchange requests after every iteration.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self._pause, self._left = 1, 1
        self._since = time.monotonic()

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Exchanges requests with the other ranks when due."""
        self._left -= 1
        if self._left == 0:
            now = time.monotonic()
            fitting = int(self._pause * SECONDS_BETWEEN_EXCHANGES / max(now - self._since, 1e-3))
            wanted = max(1, min(fitting, 2 * self._pause, 10))
            self._pause = self._left = runner.requests.exchange(runner.device, wanted)
            self._since = now


def answer_requests(runner: "Runner") -> None:
    """Saves and stops the run as requested during an iteration.

    Raises:
        Interrupted: A stop was requested. The run has been saved.
        CheckpointError: A save failed, and `on_save_error` is "stop".
        RuntimeError: A worker died.
    """
    requests = runner.requests
    requests.pending = False
    # Reading data has failed, although the iteration was finished first. A stop saves the run and needs no more data.
    lost_worker = requests.lost_worker
    if lost_worker is not None and requests.stop is None:
        requests.lost_worker = None
        evaluates = runner.phase in (Phase.EVALUATION, Phase.EVALUATION_DATA_LOADING)
        runner.phase = Phase.EVALUATION_DATA_LOADING if evaluates else Phase.DATA_LOADING
        raise lost_worker
    if requests.out_of_time and not runner.train_loop.out_of_time:
        runner.train_loop.end_early()
    saves, requests.scheduled_saves = requests.scheduled_saves, []
    for save in saves:
        save()
    if requests.stop is None and not requests.save:
        runner.saver.wait()
        return
    requests.save = False
    save_on_request(runner)
    if requests.stop is not None:
        runner.saver.wait()
        barrier()  # the launcher may end all ranks as soon as one has exited
        runner.visualizer.close()
        error = Interrupted(requests.stop)
        lost = f"The run was NOT saved. The last checkpoint is {runner.saver.last}."
        advice = "Resume to continue from there." if runner.saver.lost is None else lost
        _logger.warning("%s: stopped after iteration %d. %s", error.name, runner.iter, advice)
        raise error


def save_on_request(runner: "Runner") -> str:
    """Starts saving a run between two iterations, and returns the path of the checkpoint.

    When the run is resumed, it starts from this checkpoint.
    """
    folder, name = runner.checkpoint_dir, runner.saver.name_of(ON_REQUEST)
    path = os.path.join(folder, name)
    runner.save_checkpoint(folder, name, background=True, committed=lambda: write_pointer(runner.home, path))
    _logger.info("Saving a checkpoint after iteration %d: %s", runner.iter, path)
    return path


def save_after_data_error(runner: "Runner", error: Exception) -> None:
    """Saves a run whose data cannot be read, between two iterations, and adds a note with the path to the error.

    Does nothing in a trial, if the run has already been saved, or while a hook has replaced the weights for a
    validation. Also does nothing if there are several processes, because the others may already be in the next
    iteration.
    """
    requests, saver = runner.requests, runner.saver
    if not requests.can_save_after_error or requests.saved_after_error or requests.must_finish_evaluation:
        return
    if runner.world_size > 1:
        return
    runner.phase = Phase.OTHER
    try:
        path = save_on_request(runner)
        saver.wait()
        lost = saver.lost
    except Exception as second:  # the first error is the one to fix
        lost = str(second).split("\n", 1)[0]
    if lost is None:
        requests.saved_after_error = True
        option = "resume=True" if runner.is_plain else "--resume (resume=True)"
        note = f"saved after iteration {runner.iter}: {path}. Fix the data and resume with {option}."
    else:
        note = f"NOT saved after iteration {runner.iter}: {lost}. The last checkpoint is {saver.last}."
    add_note(error, f"The run was {note}")
