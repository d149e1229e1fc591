"""Ends all ranks of a run when one rank fails, and reports the failure once."""

import contextlib
import logging
import os
import signal
import sys
import time
import traceback
import weakref
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import torch

from footplate.distributed import rank_monitor
from footplate.distributed.process_group import collective_timeout
from footplate.engine.hook import EVENTS, Phase
from footplate.engine.signals import EarlyExitError, Interrupted
from footplate.error_context import innermost_user_line
from footplate.errors import FootplateError, RankError
from footplate.messages import printable, terminal_width, wrap_log

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_EXIT_CODE = "exit_code_of_ranks"  # attribute of an error that was reported
_GLOO_TIMEOUT, _NCCL_TIMEOUT = 1800.0, 600.0  # default timeouts of collectives in torch, in seconds
_EXIT_DELAY = 0.5  # seconds, so that the launcher sees the exit code of the failed rank first
_TIMEOUT_MARGIN = 5.0  # seconds before torch's own watchdog, which ends the process without a clear message
_TORCH = os.path.join(os.path.dirname(torch.__file__), "")
_COLLECTIVES = (os.path.join(_TORCH, "distributed", ""), os.path.join(_TORCH, "nn", "parallel", "distributed.py"))
_BACKWARD = torch.autograd.backward.__code__
_current_run: "weakref.ref[Runner] | None" = None


def start_rank_monitor(dist_cfg: Mapping[str, Any] | None) -> None:
    """Starts the monitor of this rank if there are several ranks. All ranks must call it."""
    timeout = collective_timeout(dist_cfg) or (_NCCL_TIMEOUT if torch.cuda.is_available() else _GLOO_TIMEOUT)
    before = rank_monitor.current()
    monitor = rank_monitor.start(limit=max(timeout - _TIMEOUT_MARGIN, 0.9 * timeout), inspect_stack=describe_stack)
    if monitor is None or monitor is before:
        return
    hook = sys.excepthook

    def wrap_for_terminal(text: str) -> str:
        columns = terminal_width(sys.stderr)
        return wrap_log(text, columns) if columns else text

    def report_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            report_failure(error)
        except RankError:  # the error follows from that of another rank, which is printed
            return
        hook(kind, error, trace)

    monitor.wrap_text, sys.excepthook = wrap_for_terminal, report_uncaught


def monitor_run(runner: "Runner") -> None:
    """Provides the rank monitor with the run's phase, iteration and last checkpoint, and the path of its error log."""
    global _current_run
    monitor = rank_monitor.current()
    if monitor is None:
        return
    held = _current_run = weakref.ref(runner)

    def iteration() -> int | None:
        run = held()
        loop = run.built.get("train_loop") if run is not None else None
        return min(loop.iter + 1, loop.max_iters) if loop is not None and loop.in_progress else None

    def last_checkpoint() -> str:
        run = held()
        return (run.saver.last or "") if run is not None else ""

    monitor.iteration, monitor.warn = iteration, _logger.warning
    monitor.path = os.path.join(runner.log_dir, f"rank_{runner.rank}.log")
    if runner.rank == 0:  # other ranks do not know when a shared checkpoint is committed
        monitor.last_checkpoint = last_checkpoint


def describe_stack(stack: list[tuple[FrameType, int]]) -> tuple[str, bool, str]:
    """Returns the current activity of this rank, whether it may be waiting for other ranks, and the line of user code.

    The phase comes from the run. The stack shows which hook is running and what torch does within the phase.

    Args:
        stack: Frames with their line numbers, outermost frame first.
    """
    runner = None if _current_run is None else _current_run()
    phase = Phase.START if runner is None else runner.phase
    hooks = getattr(runner, "hooks", None)  # the runner may not have built them yet
    methods = [(event, method) for event in EVENTS for method in hooks.at(event)] if hooks is not None else []
    events = {getattr(getattr(method, "__func__", method), "__code__", None): event for event, method in methods}
    doing, collective = phase.value, ""
    for frame, _ in stack:
        code = frame.f_code
        if code in events:
            doing = f"{type(frame.f_locals.get('self')).__name__}.{events[code]}"
        elif code is _BACKWARD:
            doing = "backward pass"
        if not code.co_filename.startswith(_TORCH):
            collective = ""  # a collective that has called this code is not what this rank waits in
        elif code.co_filename.startswith(_COLLECTIVES):
            collective = code.co_name.strip("_")
    line = innermost_user_line(stack)
    if collective:
        return f"{doing} ({collective})", True, line
    # Collectives of an accelerator are asynchronous: any code may wait for one when it reads a result.
    is_idle = phase in (Phase.START, Phase.BUILDING, Phase.DATA_LOADING, Phase.EVALUATION_DATA_LOADING)
    return doing, doing == "backward pass" or (not is_idle and torch.cuda.is_initialized()), line  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def reporting_failures() -> Iterator[None]:
    """Ends all ranks with a single failure report if a rank fails within the block.

    A stop that all ranks agreed on is not a failure.

    Raises:
        RankError: Another rank failed first. It replaces an error of this rank that results from that failure.
    """
    monitor = rank_monitor.current()
    if monitor is None:
        yield
        return
    monitor.begin()
    try:
        yield
    except (Interrupted, EarlyExitError):
        monitor.done()
        raise
    except BaseException as error:
        report_failure(error)
        raise
    monitor.done()


def report_failure(error: BaseException) -> int | None:
    """Reports an error to the other ranks, waits for the failure report, and returns the exit code of the run.

    Returns:
        The exit code, or None if this process runs alone. In that case, nothing is printed.

    Raises:
        RankError: Another rank failed first.
    """
    known: int | None = getattr(error, _EXIT_CODE, None)
    monitor = rank_monitor.current()
    if known is not None or monitor is None or not monitor.at_work:
        return known
    with contextlib.suppress(ValueError):  # not in the main thread
        # Torchrun ends the other ranks as soon as one is gone. This rank must report first, which takes seconds.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    text, log = str(error), ""
    if not isinstance(error, FootplateError):
        first = "\n  ".join(text.strip().split("\n")[:3])
        line = innermost_user_line(traceback.walk_tb(error.__traceback__))
        text, log = f"{type(error).__name__}{': ' if first else ''}{first}\n  at {line}", monitor.path
        if log:
            with contextlib.suppress(OSError):
                os.makedirs(os.path.dirname(log), exist_ok=True)
                with open(log, "a", encoding="utf-8") as file:
                    file.write(printable("".join(traceback.format_exception(error))))
    default = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "code", 1)
    code = getattr(error, "exit_code", default)
    code = code if isinstance(code, int) and 0 < code < 256 else 1
    report = monitor.fail(error, text, code, log=log)
    if monitor.rank in report.ranks:
        setattr(error, _EXIT_CODE, report.code)
        return report.code
    time.sleep(_EXIT_DELAY)
    message, *notes = report.text.split("\n")
    other = RankError(message, notes=[each.strip() for each in notes])
    other.exit_code = report.code
    setattr(other, _EXIT_CODE, report.code)
    raise other from error
