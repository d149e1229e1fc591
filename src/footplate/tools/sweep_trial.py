"""Runs a trial of a sweep in a separate process that reports metrics, can be pruned, and ends with the sweep."""

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, NamedTuple

import torch

from footplate.config import Config
from footplate.engine import Hook, Runner
from footplate.engine.signals import EarlyExitError, Interrupted, Requests
from footplate.errors import FootplateError
from footplate.hooks.metric_rules import MissingMetricError
from footplate.records.logger import print_urgent
from footplate.registry.dotted_paths import mark_executed
from footplate.tools.failing_module import is_out_of_memory

Outcome = tuple[str, str | MissingMetricError]  # how a trial ended, and why
OUTPUT = "output.txt"  # the output of a trial, in its folder
_PROGRESS_INTERVAL = 0.5  # seconds
_EXIT_TIMEOUT = 10  # seconds for a trial to exit after it reported its outcome
_TERMINAL_DELAY = 0.3  # seconds after which an interrupt from the terminal has reached both the sweep and its trials
_REPEAT_INTERVAL = 0.5  # seconds in which repeated interrupts are one request, sent to a process and its group


class Request(NamedTuple):
    """The config and the settings that the process of a trial receives."""

    config: Mapping[str, Any]  # the resolved config, with the trial's values and its work_dir
    metric: str
    threads: int  # 0 for torch's default
    prepare: Callable[[Config], None]  # called with the config first, in the trial's process
    executed: frozenset[str] = frozenset()  # the config files that the sweep has executed


class TrialProcesses:
    """Starts and ends the processes of trials. A released trial saves and exits, like an interrupted run.

    Each trial holds one end of a pipe that carries no data. The pipe closes when the sweep releases the trial or is
    killed.

    Attributes:
        interrupted: Whether the sweep was interrupted.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._running: set[BaseProcess] = set()
        self._pipes: dict[BaseProcess, Connection] = {}
        self._starting = False
        self._interrupted_at = math.inf
        self._signal: int = signal.SIGINT
        self._handlers: dict[int, Any] = {}  # the replaced handlers, by signal

    @contextmanager
    def handling_interrupts(self) -> Iterator[None]:
        """Releases the trials at the first interrupt and kills them at the second. Both raise KeyboardInterrupt.

        Has no effect outside the main thread, because only the main thread can handle signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # SIGTERM and SIGHUP have a handler if the command must print a result when they end it.
        others: list[int] = [each for each in (signal.SIGTERM, signal.SIGHUP) if callable(signal.getsignal(each))]
        for number in (signal.SIGINT, *others):
            self._handlers[number] = signal.signal(number, self._on_interrupt)
        try:
            yield
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if self.interrupted:  # the exception may have been swallowed
            self._raise_interrupt()

    def start(self, process: BaseProcess, pipe: Connection) -> None:
        """Starts and registers a process with SIGINT blocked.

        Args:
            process: The process.
            pipe: The sweep's end of the release pipe. Closing it releases the process.

        Raises:
            KeyboardInterrupt: An interrupt arrived before or during the start.
        """
        self._pipes[process] = pipe
        if self.interrupted:
            self._raise_interrupt()
        resource_tracker.ensure_running()  # starting the tracker later would unblock interrupts
        self._starting = threading.current_thread() is threading.main_thread()
        self._running.add(process)
        # An interrupt while the process imports modules would only print a traceback.
        _set_mask(signal.SIG_BLOCK)
        try:
            process.start()
        finally:
            _set_mask(signal.SIG_UNBLOCK)
            self._starting = False
        if self.interrupted:
            self._raise_interrupt()

    def end(self, process: BaseProcess, *, timeout: float | None) -> None:
        """Releases a process and waits for it to end. Kills it after `timeout` seconds, unless `timeout` is None."""
        self._release(process)
        try:
            if process.pid is not None:  # the process was started
                process.join(timeout=timeout)
        finally:
            if process.pid is not None and process.is_alive():
                process.kill()
            self._running.discard(process)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted and time.monotonic() - self._interrupted_at <= _REPEAT_INTERVAL:
            return
        self._interrupted_at = min(self._interrupted_at, time.monotonic())
        again, self.interrupted, self._signal = self.interrupted, True, number
        if self._running:
            name = signal.Signals(number).name
            first = f"{name}: trials finish their iterations and save; interrupt again to exit at once"
            print_urgent(f"{name} again: exiting at once without saving" if again else first, exiting=again)
        for process in list(self._running):
            if again and process.pid is not None:
                process.kill()
            self._release(process)
        if not self._starting:
            self._raise_interrupt()

    def _raise_interrupt(self) -> None:
        handler = self._handlers.get(self._signal)
        if callable(handler):
            handler(self._signal, None)
        raise KeyboardInterrupt

    def _release(self, process: BaseProcess) -> None:
        pipe = self._pipes.pop(process, None)  # pop first: closing a descriptor twice could close an unrelated file
        if pipe is not None:
            pipe.close()


def run_in_process(
    request: Request, trial: Any, on_progress: Callable[..., None], processes: TrialProcesses | None = None
) -> tuple[list[float], Outcome]:
    """Runs a trial in a separate process.

    Args:
        request: The config and the settings of the trial.
        trial: The optuna trial. It receives each finite metric and decides on pruning.
        on_progress: Called repeatedly with `done`, `length` and `score`.
        processes: The object that starts and ends the process.

    Returns:
        The validation results, and the outcome with its reason. The outcome is "done", "pruned", "infeasible",
        "failed", "refused" or "interrupted". "refused" means that every trial of the sweep would fail.
    """
    context, processes = multiprocessing.get_context("spawn"), processes or TrialProcesses()
    pipe, trial_pipe = context.Pipe()
    trial_release, release = context.Pipe(duplex=False)
    process = context.Process(target=run_trial, args=(request, trial_pipe, trial_release))
    scores: list[float] = []
    timeout = None  # an interrupted trial may take any time to save
    try:
        processes.start(process, release)
        trial_pipe.close()
        trial_release.close()
        while True:
            kind, *rest = pipe.recv()
            if kind == "progress":
                done, length = rest
                on_progress(done=done, length=length, score=scores[-1] if scores else None)
            elif kind == "value":
                step, value = rest
                scores.append(value)
                if math.isfinite(value):  # a median with NaN would prune good trials
                    trial.report(value, step)
                pipe.send(trial.should_prune())
            else:  # the last message is the outcome
                timeout = _EXIT_TIMEOUT
                return scores, (kind, rest[0])
    except EOFError:  # the process ended without reporting an outcome
        process.join()
        if process.exitcode in (-signal.SIGINT, 128 + signal.SIGINT):  # interrupted twice
            return scores, ("interrupted", "")
        if process.exitcode == -signal.SIGKILL:
            return scores, ("infeasible", "killed, most likely because memory ran out")
        return scores, ("failed", f"the process ended with exit code {process.exitcode}")
    finally:
        processes.end(process, timeout=timeout)


class _Interrupts:
    """Handles interrupts in a trial's process until training handles them itself.

    Records an interrupt, because other code may swallow the exception.

    Args:
        release: A pipe that carries no data. It closes when the sweep releases the trial or dies.

    Attributes:
        requests: The signal requests of the training run, once it has started and handles interrupts.
    """

    def __init__(self, release: Connection) -> None:
        self._release = release
        self._interrupted_at: float | None = None
        self.requests: Requests | None = None

    @property
    def received(self) -> bool:
        """Whether an interrupt was received."""
        return self._interrupted_at is not None or (self.requests is not None and self.requests.stop is not None)

    @contextmanager
    def accepted(self) -> Iterator[None]:
        """Accepts interrupts inside the block, including one that has been pending since the process started.

        Ignores interrupts after the block, because the process is about to exit.
        """
        # A process that inherits ignored interrupts has no Python handler, so install one.
        signal.signal(signal.SIGINT, self._on_interrupt)
        threading.Thread(target=self._wait_for_release, daemon=True).start()
        _set_mask(signal.SIG_UNBLOCK)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted_at is None:
            self._interrupted_at = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._interrupted_at > _REPEAT_INTERVAL:
            os._exit(128 + number)

    def _wait_for_release(self) -> None:
        """Waits until the sweep releases the trial. Then interrupts it, unless the terminal has already done so."""
        with suppress(EOFError, OSError):
            self._release.recv_bytes()
        time.sleep(_TERMINAL_DELAY)
        if not self.received:
            os.kill(os.getpid(), signal.SIGINT)


class _ReportHook(Hook):
    """Sends progress and validation results to the sweep, and stops the run when the trial is pruned."""

    priority = "LOWEST"

    def __init__(self, pipe: Connection, metric: str, interrupts: _Interrupts) -> None:
        self.pipe, self.metric, self.interrupts = pipe, metric, interrupts
        self._sent_at = 0.0

    def before_train(self, runner: Runner) -> None:
        """Hands interrupt handling over to the training."""
        if self.interrupts.received:
            raise KeyboardInterrupt
        self.interrupts.requests = runner.requests

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Sends the progress at most once every `_PROGRESS_INTERVAL` seconds."""
        if time.monotonic() - self._sent_at >= _PROGRESS_INTERVAL:
            with suppress(OSError):  # if the sweep has died, this trial is about to be interrupted
                self.pipe.send(("progress", runner.iter + 1, runner.max_iters))
            self._sent_at = time.monotonic()

    def check_metrics(self, metrics: Sequence[str]) -> None:
        """Raises MissingMetricError if validation does not compute the metric. Called before training."""
        if self.metric not in metrics:
            raise MissingMetricError("the sweep", self.metric, metrics, "--metric")

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Sends the metric to the sweep and waits for its pruning decision."""
        found = metrics or {}
        self.check_metrics(list(found))
        with suppress(OSError, EOFError):
            self.pipe.send(("value", runner.iter, float(found[self.metric])))
            if self.pipe.recv():
                raise EarlyExitError


def run_trial(request: Request, pipe: Connection, release: Connection) -> None:
    """Runs a trial and sends messages `(kind, ...)` to the sweep. The last message is the outcome.

    The sweep blocks interrupts while the process starts. A later interrupt ends the run: it saves and exits silently.

    Args:
        request: The config and the settings of the trial.
        pipe: The connection to the sweep.
        release: A pipe that closes when the trial must end.
    """
    with open(os.path.join(request.config["work_dir"], OUTPUT), "a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    interrupts = _Interrupts(release)
    outcome: Outcome = "interrupted", ""
    with suppress(KeyboardInterrupt), interrupts.accepted():
        outcome = _train(request, pipe, interrupts)
    with suppress(OSError):  # the sweep may have been interrupted too
        pipe.send(("interrupted", "") if interrupts.received else outcome)


def _train(request: Request, pipe: Connection, interrupts: _Interrupts) -> Outcome:
    if request.threads:
        torch.set_num_threads(request.threads)
    try:
        for file in request.executed:
            mark_executed(file)
        cfg = Config(request.config)
        request.prepare(cfg)
        runner = Runner.from_cfg(cfg, check=True)
        runner.register_hook(_ReportHook(pipe, request.metric, interrupts))
        runner.train()
    except EarlyExitError:
        return "pruned", ""
    except Interrupted:
        return "interrupted", ""
    except MissingMetricError as error:
        return "refused", error
    except Exception as error:  # noqa: BLE001 - an error of one trial must not stop the sweep
        if is_out_of_memory(error):
            return "infeasible", "out of memory"
        if not isinstance(error, FootplateError):
            traceback.print_exc(file=sys.stdout)
        return "failed", f"{type(error).__name__}: {error}".partition("\n")[0]
    return "done", ""


def _set_mask(how: int) -> None:
    """Blocks or unblocks interrupts in this thread and the processes that it starts.

    Unblocking delivers a pending interrupt.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(how, {signal.SIGINT})
