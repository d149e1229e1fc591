"""One trial: a run in a process of its own, which tells what it measures and may be told to stop."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

from footplate.config import Config
from footplate.engine import Hook, Runner
from footplate.engine.static import check_config
from footplate.errors import FootplateError

if TYPE_CHECKING:
    from footplate.inspection.sweep.study import Outcome

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
    """Tells the sweep what each validation gave, and ends the run when it is told to."""

    priority = "LOWEST"

    def __init__(self, pipe: Connection, metric: str) -> None:
        self.pipe, self.metric = pipe, metric

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Sends the metric and waits for the answer."""
        found = metrics or {}
        if self.metric not in found:
            raise FootplateError(f"no metric is called '{self.metric}'", notes=[f"metrics: {', '.join(found)}"])
        self.pipe.send(("value", runner.iter, float(found[self.metric])))
        if self.pipe.recv():
            raise _PrunedError


def run_trial(request: Request, pipe: Connection) -> None:
    """Runs a trial and sends how it went: `(kind, ...)`, the last one "done", "pruned", "infeasible" or "failed".

    Args:
        request: What to run.
        pipe: To the sweep.
    """
    path = os.path.join(request.config["work_dir"], "output.txt")
    with open(path, "a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        answer = _attempt(request, pipe)
    pipe.send(answer)


def _attempt(request: Request, pipe: Connection) -> "Outcome":
    import torch

    if request.threads:
        torch.set_num_threads(request.threads)
    try:
        cfg = Config(dict(request.config))
        request.prepare(cfg)
        runner = Runner.from_cfg(check_config(cfg))
        runner.register_hook(_ReportHook(pipe, request.metric))
        runner.train()
    except _PrunedError:
        return "pruned", ""
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
            return "infeasible", "out of memory"
        return _failed(error)
    except Exception as error:  # noqa: BLE001 - one trial's mistake is not the sweep's
        return _failed(error)
    return "done", ""


def _failed(error: Exception) -> "Outcome":
    import traceback

    if not isinstance(error, FootplateError):
        traceback.print_exc(file=sys.stdout)
    return "failed", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
