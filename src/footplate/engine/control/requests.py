"""Collects requests to save, stop or validate a run, and exchanges them between ranks.

A signal handler or hook writes its request to `Requests.local`. `Requests.exchange` copies it to `Requests.agreed` on
all ranks. Between iterations, the training loop handles `agreed`:

| request | set by | effect | handled by | cleared by |
|---|---|---|---|---|
| `signal` | SIGINT, SIGTERM, SIGHUP | saves the run and raises `Interrupted` | `Boundary.handle` | nothing |
| `save` | SIGUSR1 | saves the run | `Boundary.handle` | `Boundary.handle` |
| `stop` | `stop_training` | ends training after the current iteration or epoch | the loop | `stop_training = False` |
| `time_limit` | `TimeLimitHook` | ends training after the current iteration | the loop | nothing |
| `validation` | `validation_requested` | validates the model | the loop | the next validation run |

Hooks also add the checkpoints to save to `Requests.saves`. They do so on all ranks, so these requests need no exchange.

`stop` and `validation` are saved in checkpoints, because a hook that has made a request does not repeat it in a resumed
run. docs/reliability.md explains why the others are not saved.

If a worker dies, `Boundary.handle` saves the run and raises the error, unless `signal` is set. The error is in
`data_wait.pending` and is not exchanged. Like a stop signal in a single process, it also ends the wait for a batch.

A stop signal leads to these calls:

    _Handlers.on_stop                 when the signal arrives
      Requests.request_stop           sets `local.signal`, and in a single process:
        Requests.announce_stop        prints a message
        DataWait.interrupt            raises InterruptedWaitError in work that the run repeats when it resumes

    Requests.leave_validation         after a batch of a validation: raises InterruptedWaitError
      Requests.exchange_if_due        with several ranks: sets `agreed.signal`

    Boundary.handle                   after an iteration, or after InterruptedWaitError
      Requests.exchange_if_due        with several ranks: sets `agreed.signal`
      save_on_request
      end_run                         raises Interrupted
"""

import logging
import os
import signal
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

from footplate.checkpoint import SaveRequest
from footplate.data.waiting import InterruptedWaitError, data_wait
from footplate.distributed import get_rank, get_world_size
from footplate.engine.control.process_setup import is_notebook
from footplate.engine.values.activity import Activity
from footplate.interrupts import SIGNALED
from footplate.records.logger import print_urgent

_logger = logging.getLogger("footplate.engine")
ON_REQUEST = "on_signal.pth"
END_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECONDS_BETWEEN_EXCHANGES = 1.0
_MAX_PAUSE = 10  # batches between two exchanges
_NO_MORE = 1 << 30  # the pause that a rank without further batches proposes


class EarlyExitError(Exception):
    """Raised to end a run intentionally. All ranks raise it at the same point."""


class Interrupted(SystemExit):
    """Raised to end the process after a signal, once the run has been saved or saving has failed.

    The exit code is 128 plus the signal number, e.g. 143 for SIGTERM.

    Args:
        number: The number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(SIGNALED + number)
        self.name = signal.Signals(number).name

    def __str__(self) -> str:
        return f"stopped by {self.name}"


class InterruptedCell(KeyboardInterrupt):
    """Raised instead of Interrupted if Ctrl-C stops a notebook cell. IPython would advise how to exit the kernel."""

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]


@dataclass
class RequestFlags:
    """The requests to handle after the current iteration.

    Attributes:
        signal: The number of the received signal, or 0.
        save: Whether to save the run.
        stop: Whether a hook has requested to end training after the current iteration or epoch.
        time_limit: Whether to end training after the current iteration, even within an epoch, and to validate.
        validation: Whether to validate.
    """

    signal: int = 0
    save: bool = False
    stop: bool = False
    time_limit: bool = False
    validation: bool = False


class Requests:
    """The requests of this rank and of all ranks.

    Signal handlers and hooks set `local`. With several ranks, `exchange` combines these requests, so that all ranks
    respond in the same iteration. In a single process, `local` and `agreed` are one object, so each request is agreed
    as soon as it is made.

    Args:
        device: The device for exchanging requests between ranks.
        activity: What the run is doing. (A reference to the runner would keep it in memory.)

    Attributes:
        agreed: The requests of all ranks, which the training loop handles after the current iteration.
        local: The requests of this rank that have not been exchanged.
        is_single_process: Whether this is the only process, so that requests need no exchange.
        saves: The checkpoints to save after the current iteration, epoch or validation run, including its hooks.
        leaves_for_save: Whether a request to save ends the current validation run of the training loop.
        saved_after_error: Whether reading data failed and the run has been saved.
        can_save_after_error: Whether to save the run if reading data fails. Trial runs set it to False.
    """

    def __init__(self, device: torch.device, activity: Activity) -> None:
        self._device = device
        self._activity = activity
        self.can_save_after_error = True
        self.leaves_for_save = False
        self.local = RequestFlags()
        self._pause = self._left = 1  # batches between the latest exchange and the next one, and until the next one
        self._since = time.monotonic()
        self.reset()

    def reset(self, *, drop_stop: bool = False) -> None:
        """Drops all requests except those that a checkpoint contains, which may come from one.

        Args:
            drop_stop: Whether to also drop a request to end training, because it has ended an earlier run.
        """
        self.is_single_process = get_world_size() == 1
        self.local = RequestFlags(validation=self.local.validation, stop=self.local.stop and not drop_stop)
        self.agreed = self.local if self.is_single_process else RequestFlags()
        self.saved_after_error = False
        self.saves: list[SaveRequest] = []

    def request_save(self) -> None:
        """Requests a save. Called by a signal handler.

        Raises:
            InterruptedWaitError: The training loop of a single process is validating.
        """
        self.local.save = True
        if self.is_single_process and self.leaves_for_save and data_wait.work == "validation":
            data_wait.leave(InterruptedWaitError())

    def request_stop(self, number: int) -> None:
        """Requests a save and the end of the process because of a signal. Called by a signal handler.

        Raises:
            InterruptedWaitError: A single process is doing work that it repeats when it resumes; see `DataWait`.
        """
        if self.local.signal:
            return
        self.local.signal = number
        if self.is_single_process:
            self.announce_stop(number)
            data_wait.interrupt(InterruptedWaitError())

    def report_worker_death(self, error: RuntimeError) -> None:
        """Makes the loop save the run and raise the error about a dead worker. Called by a signal handler.

        Raises:
            RuntimeError: The loop is waiting for a batch or validating.
        """
        data_wait.interrupt(error)

    def announce_stop(self, number: int) -> None:
        """Prints that the run ends after the current iteration or validation run."""
        if get_rank() == 0:
            name = signal.Signals(number).name
            again = f"{name} again" if number in END_SIGNALS else "SIGTERM twice"
            advice = f"Send {again} to exit at once."
            if number == signal.SIGINT and is_notebook():
                advice = "Interrupt again to raise KeyboardInterrupt at once."
            elif number == signal.SIGINT and os.isatty(2):  # the descriptor of stderr
                advice = "Press Ctrl-C again to exit now."  # fits into 80 columns
            work = f"finishing the {'validation' if self._activity.is_validating else 'iteration'}, then saving"
            left = {
                "validation": "stopping the validation, then saving",
                "first step": "stopping this process's first iteration",
            }
            print_urgent(f"{name}: {left.get(data_wait.work, work)}. {advice}")

    def exchange_if_due(self) -> None:
        """Exchanges requests about once per second. All ranks must call this method after the same batches.

        They exchange after at most 10 batches, or after each batch if one takes longer than a second.
        """
        self._left -= 1
        if self._left <= 0:
            now = time.monotonic()
            batches_per_second = self._pause / max(now - self._since, 1e-3)
            self._exchange_again(min(max(int(batches_per_second * SECONDS_BETWEEN_EXCHANGES), 1), _MAX_PAUSE))
            self._since = now

    def _exchange_again(self, pause: int) -> int:
        self._pause = self._left = self.exchange(pause)
        return self._pause

    def leave_validation(self, *, is_last: bool = False) -> None:
        """Leaves a validation run of the training loop if the ranks have agreed to save or stop.

        All ranks must call this method, after each batch and then with `is_last`. They may have different numbers of
        batches: a rank that has no more of them takes part in the exchanges of the others until they have none either.

        Raises:
            InterruptedWaitError: The ranks have agreed to save or stop.
        """
        if data_wait.work != "validation":
            return
        if not self.is_single_process:
            if is_last:
                while not self._is_left and self._exchange_again(_NO_MORE) != _NO_MORE:
                    pass
            else:
                self.exchange_if_due()
            if is_last or self._is_left:
                self._pause = self._left = 1  # ranks with and without further batches count on from the same number
        if self._is_left:
            raise InterruptedWaitError

    @property
    def _is_left(self) -> bool:
        """Whether all ranks leave the validation run."""
        return bool(self.agreed.signal or (self.agreed.save and self.leaves_for_save))

    def exchange(self, pause: int = 1) -> int:
        """Combines the requests of all ranks. All ranks must call this method in the same iteration.

        A signal that arrives during an exchange is handled in the next one. Does nothing in a single process.

        Args:
            pause: The number of iterations until the next exchange, as proposed by this rank.

        Returns:
            The number of iterations until the next exchange, which is the minimum over all ranks.
        """
        if self.is_single_process:
            return pause
        agreed = self.agreed
        local = self.local
        save = local.save
        if save:  # reset only if it was True when read, because a signal may have set it since
            local.save = False
        # The greatest -pause is the shortest pause.
        values = [local.signal, save, local.stop, local.time_limit, local.validation, -pause]
        local.validation = False
        requests = torch.tensor(values, dtype=torch.int64, device=self._device)
        dist.all_reduce(requests, dist.ReduceOp.MAX)
        number, save, stop, time_limit, validation, negative_pause = requests.tolist()
        agreed.stop, agreed.time_limit = bool(stop), bool(time_limit)
        if validation:
            agreed.validation = True
        if number and not agreed.signal:
            agreed.signal = number
            self.announce_stop(number)
        if save:
            agreed.save = True
        return int(-negative_pause)
