"""Runs one trial in its own process, which reports metrics and can be pruned."""

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
from footplate.errors import FootplateError
from footplate.hooks.metric_rules import MissingMetricError, missing_metric
from footplate.registry.dotted_paths import mark_executed
from footplate.tools.sweep.leash import Interrupts, Leash

Outcome = tuple[str, str | MissingMetricError]  # how a trial ended, and why
OUTPUT = "output.txt"  # the output of a trial, in its folder
_SECONDS_BETWEEN = 0.5  # between two progress reports
_PATIENCE = 10  # seconds for a trial to exit after it reported its outcome
_NO_MEMORY = ("out of memory", "can't allocate memory", "defaultcpuallocator", "cannot allocate memory")


class Request(NamedTuple):
    """The request to run a trial.

    Attributes:
        config: The resolved config, with the trial's values and its work_dir.
        metric: The metric to report.
        threads: The number of threads, 0 for torch's default.
        prepare: Called with the config first, in the trial's process.
        executed: The config files that the sweep has executed; see `is_from_executed_config`.
    """

    config: Mapping[str, Any]
    metric: str
    threads: int
    prepare: Callable[[Config], None]
    executed: frozenset[str] = frozenset()


class _PrunedError(Exception):
    """The sweep pruned the trial."""


class _ReportHook(Hook):
    """Sends progress and validation results to the sweep, and stops the run when the trial is pruned."""

    priority = "LOWEST"

    def __init__(self, pipe: Connection, metric: str, interrupts: Interrupts) -> None:
        self.pipe, self.metric, self.interrupts = pipe, metric, interrupts
        self._told = 0.0

    def before_train(self, runner: Runner) -> None:
        """Hands the handling of interrupts over to the training."""
        self.interrupts.check()
        self.interrupts.run = runner.requests

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Sends the progress at most every `_SECONDS_BETWEEN` seconds."""
        if time.monotonic() - self._told >= _SECONDS_BETWEEN:
            with suppress(OSError):  # if the sweep has died, this trial is about to be interrupted
                self.pipe.send(("at", runner.iter + 1, runner.max_iters))
            self._told = time.monotonic()

    def check_metrics(self, metrics: Sequence[str]) -> None:
        """Raises an error if validation lacks the metric; the preflight calls this before the first iteration.

        Raises:
            MissingMetricError: The metric is missing.
        """
        if self.metric not in metrics:
            raise missing_metric("the sweep", self.metric, metrics, "--metric")

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Sends the metric and waits for the decision to prune."""
        found = metrics or {}
        self.check_metrics(list(found))
        with suppress(OSError, EOFError):
            self.pipe.send(("value", runner.iter, float(found[self.metric])))
            if self.pipe.recv():
                raise _PrunedError


def in_a_process(
    request: Request, trial: Any, tell: Callable[..., None], leash: Leash | None = None
) -> tuple[list[float], Outcome]:
    """Runs a trial in its own process.

    Args:
        request: What to run.
        trial: The optuna trial, which receives each metric and decides about pruning.
        tell: Called with `done`, `length` and `score` from time to time.
        leash: The control of the process.

    Returns:
        The validation results, and the outcome: "done", "pruned", "infeasible", "failed", "refused" or "interrupted",
        and the reason. "refused" means that every trial of the sweep would fail.
    """
    context, leash = multiprocessing.get_context("spawn"), leash or Leash()
    here, there = context.Pipe()
    held, end = context.Pipe(duplex=False)
    process = context.Process(target=run_trial, args=(request, there, held))
    scores: list[float] = []
    patience = None  # an interrupted trial may take any time to save
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
    """Returns the outcome of a trial whose process ended without reporting one."""
    if code in (-signal.SIGINT, 128 + signal.SIGINT):  # interrupted twice
        return "interrupted", ""
    if code == -signal.SIGKILL:
        return "infeasible", "killed, most likely since memory ran out"
    return "failed", f"its process ended with {code}"


def _answer_of(pipe: Connection, trial: Any, scores: list[float], tell: Callable[..., None]) -> Outcome:
    """Receives messages from a trial until it reports its outcome; appends validation results to `scores`."""
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
    """Runs a trial and sends messages `(kind, ...)` to the sweep; the last one is the outcome.

    The sweep blocks interrupts while the process starts. Later ones end the run as usual: it saves and exits silently.

    Args:
        request: What to run.
        pipe: The connection to the sweep.
        held: A pipe that closes when the trial must end.
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
        for file in request.executed:
            mark_executed(file)
        cfg = Config(request.config)
        request.prepare(cfg)
        runner = Runner.from_cfg(cfg, check=True)
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
    except Exception as error:  # noqa: BLE001 - an error of one trial must not stop the sweep
        return _failed(error)
    return "done", ""


def _failed(error: Exception) -> Outcome:
    import traceback

    if not isinstance(error, FootplateError):
        traceback.print_exc(file=sys.stdout)
    return "failed", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
