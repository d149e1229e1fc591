"""Ends a run early, or saves it, on request, and saves it when its data cannot be read.

All requests take the same path. A signal handler or a hook writes a request to `Requests.own`. `Requests.exchange`
turns what is `own` into what all ranks have `agreed` on; on one process, both are the same object. The training loop
reads what is `agreed` between two iterations:

- `signal` saves the run and ends the process with `Interrupted`.
- `save` saves the run.
- `stop` ends training early, in good order: see `Stop`.
"""

import enum
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from footplate.checkpoint import AfterSave
from footplate.data import kill_workers
from footplate.distributed import barrier, get_rank, is_distributed
from footplate.engine.hook import Hook
from footplate.error_context import add_note
from footplate.records.logger import print_urgent

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
ON_REQUEST = "on_signal.pth"
END_SIGNALS = (signal.SIGINT, signal.SIGTERM)
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


class Stop(enum.IntEnum):
    """When training ends early. If ranks request different ends, the greatest value applies.

    Training by iterations ends after the current iteration in either case.
    """

    NO = 0
    AFTER_EPOCH = 1  # requested through `stop_training` of the training loop
    AFTER_ITERATION = 2  # because the time limit is near; the loop validates first


@dataclass
class Request:
    """The pending requests for after the current iteration.

    Attributes:
        signal: The number of the signal for which to save the run and end the process, or 0.
        save: Whether to save.
        stop: When to end training.
    """

    signal: int = 0
    save: bool = False
    stop: Stop = Stop.NO


class Requests:
    """The requests that a training loop handles after the current iteration.

    Signal handlers and hooks set `own`. The loop handles the requests in `agreed`. On one process, both are the same
    object. With several ranks, `exchange` collects the requests of all of them, so that all of them respond in the same
    iteration.

    Args:
        device: The device on which ranks exchange their requests.
        phases: The phases that the run is in; see `Runner`.

    Attributes:
        own: The requests that this process received.
        agreed: The requests to handle.
        pending: Whether `answer_requests` has anything to do. The loop checks only this after each iteration.
        waits_for_batch: Whether the training loop waits for a batch, so that there is no iteration to finish.
        scheduled_saves: The saves that hooks have scheduled for after the current iteration.
        lost_worker: The error of a worker that died during the current iteration, or None.
        saved_after_error: Whether reading data failed and the progress of the run is saved.
        can_save_after_error: Whether the run is saved when reading data fails. A trial is not.
    """

    def __init__(self, device: torch.device, phases: Sequence[str]) -> None:
        self._device, self._phases = device, phases
        self.can_save_after_error = True
        self.reset()

    def reset(self) -> None:
        """Drops all requests."""
        self.own = Request()
        self.agreed = Request() if is_distributed() else self.own
        self.pending = self.waits_for_batch = self.saved_after_error = False
        self.scheduled_saves: list[Callable[[], None]] = []
        self.lost_worker: Exception | None = None

    def alarm(self) -> None:
        """Makes the loop check for requests. May be called from any thread."""
        self.pending = True

    def schedule_save(self, save: Callable[[], None]) -> None:
        """Schedules `save` for after the current iteration, epoch or validation and all of its hooks."""
        self.scheduled_saves.append(save)
        self.pending = True

    @property
    def is_alone(self) -> bool:
        """Whether there is only this process, so that its own requests take effect at once."""
        return self.agreed is self.own

    def announce_stop(self) -> None:
        """Makes the loop end the run after the current iteration or validation, and tells the user."""
        self.pending = True
        if get_rank() == 0:
            name = signal.Signals(self.agreed.signal).name
            again = f"{name} again" if self.agreed.signal in END_SIGNALS else "SIGTERM twice"
            work = "validation" if "val" in self._phases else "iteration"
            print_urgent(f"{name}: finishing the {work}, then saving. Send {again} to exit at once.")

    def exchange(self, pause: int = 1) -> int:
        """Exchanges the requests of all ranks. All ranks must call this method in the same iteration.

        A signal that arrives during the exchange counts for the next one. On one process, there is nothing to do.

        Args:
            pause: The number of iterations until the next exchange, as proposed by this rank.

        Returns:
            The number of iterations until the next exchange, the same on all ranks: the smallest proposal.
        """
        if self.is_alone:
            return pause
        own, agreed = self.own, self.agreed
        save = own.save
        if save:  # only then, because a signal may arrive before the next line
            own.save = False
        values = [own.signal, save, own.stop, -pause]
        requests = torch.tensor(values, dtype=torch.int64, device=self._device)
        dist.all_reduce(requests, dist.ReduceOp.MAX)
        number, save, stop, pause = requests.tolist()
        agreed.stop = Stop(stop)
        if number and not agreed.signal:
            agreed.signal = number
            self.announce_stop()
        if save:
            agreed.save = self.pending = True
        return -pause


class RequestExchangeHook(Hook):
    """Makes all ranks handle a request in the same iteration, no matter which rank received it.

    Ranks exchange requests about once per second, but at least every 10 iterations. If an iteration takes longer than a
    second, they exchange requests after every iteration.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self._pause = self._left = 1
        self._since = time.monotonic()

    def after_train_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Exchanges requests with the other ranks when due."""
        self._left -= 1
        if self._left == 0:
            now = time.monotonic()
            fitting = int(self._pause * SECONDS_BETWEEN_EXCHANGES / max(now - self._since, 1e-3))
            self._pause = self._left = runner.requests.exchange(pause=min(max(fitting, 1), 10))
            self._since = now


def answer_requests(runner: "Runner") -> None:
    """Saves and stops the run as requested during an iteration or a validation.

    Raises:
        Interrupted: A stop was requested. The run has been saved.
        CheckpointError: A save failed, and `on_save_error` is "stop".
        RuntimeError: A worker died.
    """
    requests, agreed = runner.requests, runner.requests.agreed
    requests.pending = False
    # Reading data has failed, although the iteration was finished first. A stop saves the run and needs no more data.
    if requests.lost_worker is not None and not agreed.signal:
        death, requests.lost_worker = requests.lost_worker, None
        save_after_data_error(runner, death)
        raise death
    runner.saver.complete()
    saves, requests.scheduled_saves = requests.scheduled_saves, []
    for save in saves:
        save()
    if not agreed.save and not agreed.signal:
        return
    number, agreed.save = agreed.signal, False
    save_on_request(runner)
    if number:
        runner.saver.wait()
        barrier()  # the launcher may end all ranks as soon as one has exited
        runner.visualizer.close()
        kill_workers(runner.built_loaders())  # they may hang, and the exit of the process would wait for them
        error = Interrupted(number)
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
    runner.save_checkpoint(folder, name, background=True, after=AfterSave(runner.folder.home))
    _logger.info("Saving a checkpoint after iteration %d: %s", runner.iter, path)
    return path


def save_after_data_error(runner: "Runner", error: Exception) -> None:
    """Saves a run whose data cannot be read, between two iterations, and adds a note with the path to the error.

    Does nothing in a trial, or if the run has already been saved. Also does nothing if there are several processes,
    because the others may already be in the next iteration.
    """
    requests, saver = runner.requests, runner.saver
    if not requests.can_save_after_error or requests.saved_after_error or runner.world_size > 1:
        return
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
