"""One trial: a run in a process of its own, which tells what it measures and may be told to stop."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from footplate.config import Config
from footplate.engine import Hook, Runner
from footplate.engine.signals import Interrupted
from footplate.engine.static import check_config
from footplate.errors import FootplateError
from footplate.hooks.comparing import MissingMetricError, missing_metric
from footplate.inspection.sweep.leash import Interrupts, Leash

Outcome = tuple[str, str | MissingMetricError]  # how a trial ended, and why
OUTPUT = "output.txt"  # what a trial says, in its folder
_SECONDS_BETWEEN = 0.5  # two times that a trial tells how far it is
_PATIENCE = 10  # seconds that a trial has to leave when it has said how it went
_NO_MEMORY = ("out of memory", "can't allocate memory", "defaultcpuallocator", "cannot allocate memory")


class Request(NamedTuple):
    """What a trial runs.

    Attributes:
        config: The config, resolved, with the trial's values and its work_dir.
        metric: The metric that it is judged by.
        threads: How many threads it computes with, 0 for as many as it likes.
        prepare: Called with the config first, in the trial's process.
    """

    config: Mapping[str, Any]
    metric: str
    threads: int
    prepare: Callable[[Config], None]


class _PrunedError(Exception):
    """The trial is not worth going on with."""


class _ReportHook(Hook):
    """Tells the sweep how far the run is and what each validation gave, and ends the run when it is told to."""

    priority = "LOWEST"

    def __init__(self, pipe: Connection, metric: str, interrupts: Interrupts) -> None:
        self.pipe, self.metric, self.interrupts = pipe, metric, interrupts
        self._told = 0.0

    def before_train(self, runner: Runner) -> None:
        """Takes note of who answers interrupts from now on."""
        self.interrupts.check()
        self.interrupts.run = runner.requests

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Tells how far the run is, not too often."""
        if time.monotonic() - self._told >= _SECONDS_BETWEEN:
            with suppress(OSError):  # a sweep that is gone has let go of this trial
                self.pipe.send(("at", runner.iter + 1, runner.max_iters))
            self._told = time.monotonic()

    def check_metrics(self, metrics: Sequence[str]) -> None:
        """Refuses a metric that no validation gives; the preflight calls this before the first iteration.

        Raises:
            MissingMetricError: It is not among those that there are.
        """
        if self.metric not in metrics:
            raise missing_metric("the sweep", self.metric, metrics, "--metric")

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Sends the metric and waits for the answer."""
        found = metrics or {}
        self.check_metrics(list(found))
        with suppress(OSError, EOFError):
            self.pipe.send(("value", runner.iter, float(found[self.metric])))
            if self.pipe.recv():
                raise _PrunedError


def in_a_process(
    request: Request, trial: Any, tell: Callable[..., None], leash: Leash | None = None
) -> tuple[list[float], Outcome]:
    """Runs a trial in a process of its own.

    Args:
        request: What to run.
        trial: The study's trial, which is told each metric, and tells whether to go on.
        tell: Called with `done`, `length` and `score` from time to time.
        leash: What holds it.

    Returns:
        What its validations gave, and how it ended: "done", "pruned", "infeasible", "failed", "refused" or
        "interrupted", and why; "refused" is what no trial of the sweep can do.
    """
    context, leash = multiprocessing.get_context("spawn"), leash or Leash()
    here, there = context.Pipe()
    held, end = context.Pipe(duplex=False)
    process = context.Process(target=run_trial, args=(request, there, held))
    scores: list[float] = []
    patience = None  # what is interrupted takes the time it needs to save
    try:
        leash.start(process, end)
        there.close()
        held.close()
        outcome = _answer_of(here, trial, scores, tell)
        patience = _PATIENCE
        return scores, outcome
    except EOFError:
        process.join()
        return scores, _outcome_without_words(process.exitcode)
    finally:
        leash.end(process, patience=patience)


def _outcome_without_words(code: int | None) -> Outcome:
    """What became of a trial whose process ended before it said so."""
    if code in (-signal.SIGINT, 128 + signal.SIGINT):  # it was interrupted twice
        return "interrupted", ""
    if code == -signal.SIGKILL:
        return "infeasible", "killed, most likely since memory ran out"
    return "failed", f"its process ended with {code}"


def _answer_of(pipe: Connection, trial: Any, scores: list[float], tell: Callable[..., None]) -> Outcome:
    """Listens to a trial until it says how it ended; what its validations give is added to `scores`."""
    while True:
        kind, *rest = pipe.recv()
        if kind == "at":
            done, length = rest
            tell(done=done, length=length, score=scores[-1] if scores else None)
        elif kind == "value":
            step, value = rest
            scores.append(value)
            trial.report(value, step)
            pipe.send(trial.should_prune())
        else:
            return kind, rest[0]


def run_trial(request: Request, pipe: Connection, held: Connection) -> None:
    """Runs a trial and sends how it went: `(kind, ...)`, the last one "done", "pruned", "infeasible" or "failed".

    An interrupt, which the sweep holds back while the process starts, ends the run as it ends any: saved, and silent.

    Args:
        request: What to run.
        pipe: To the sweep.
        held: From the sweep: it ends when the trial is to end.
    """
    with open(os.path.join(request.config["work_dir"], OUTPUT), "a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    interrupts = Interrupts(held)
    answer: Outcome = "interrupted", ""
    with suppress(KeyboardInterrupt), interrupts.taken():
        answer = _attempt(request, pipe, interrupts)
    with suppress(OSError):  # the sweep may have been interrupted too
        pipe.send(("interrupted", "") if interrupts.came else answer)


def _attempt(request: Request, pipe: Connection, interrupts: Interrupts) -> Outcome:
    import torch

    if request.threads:
        torch.set_num_threads(request.threads)
    try:
        cfg = Config(dict(request.config))
        request.prepare(cfg)
        runner = Runner.from_cfg(check_config(cfg))
        runner.register_hook(_ReportHook(pipe, request.metric, interrupts))
        runner.train()
    except _PrunedError:
        return "pruned", ""
    except Interrupted:
        return "interrupted", ""
    except MissingMetricError as error:
        return "refused", error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
            return "infeasible", "out of memory"
        return _failed(error)
    except Exception as error:  # noqa: BLE001 - one trial's mistake is not the sweep's
        return _failed(error)
    return "done", ""


def _failed(error: Exception) -> Outcome:
    import traceback

    if not isinstance(error, FootplateError):
        traceback.print_exc(file=sys.stdout)
    return "failed", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
