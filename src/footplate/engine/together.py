"""Ends a run on several processes: all ranks end for one reason, which is reported once."""

import contextlib
import logging
import os
import signal
import sys
import time
import traceback
import weakref
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from footplate.distributed import rank_monitor
from footplate.distributed.process_group import collective_timeout
from footplate.engine.signals import Interrupted, LeavingError
from footplate.engine.whereabouts import look
from footplate.errors import FootplateError, RankError
from footplate.messages import printable
from footplate.wrap import terminal_width, wrap_log

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_CODE = "code_of_ranks"
_OF_GLOO, _OF_NCCL = 1800.0, 600.0  # default timeouts of collectives in torch, in seconds
_BEHIND_FIRST = 0.5  # seconds, so that the launcher sees the exit code of the failed rank first
_MARGIN = 5.0  # seconds before torch's own watchdog, which ends the process without a clear message


def begin_watch(dist_cfg: Mapping[str, Any] | None) -> None:
    """Starts the monitor of this rank if there are several ranks. All ranks must call it."""
    timeout = collective_timeout(dist_cfg) or (_OF_NCCL if torch.cuda.is_available() else _OF_GLOO)
    before = rank_monitor.current()
    found = rank_monitor.start(limit=max(timeout - _MARGIN, 0.9 * timeout), inspect_stack=look)
    if found is not None and found is not before:
        found.wrap_text = _as_wide_as_the_screen
        hook = sys.excepthook
        sys.excepthook = lambda kind, error, trace: _at_the_end(hook, kind, error, trace)


def name_run(runner: "Runner") -> None:
    """Gives the rank monitor access to the run: its iteration, its last checkpoint, and the path of its error log."""
    mine = rank_monitor.current()
    if mine is None:
        return
    held, path = weakref.ref(runner), os.path.join(runner.log_dir, f"rank_{runner.rank}.log")

    def iteration() -> int | None:
        loop = vars(held() or object).get("train_loop")
        return min(loop.iter + 1, loop.max_iters) if loop is not None and loop.in_progress else None

    def saved() -> str:
        saver = vars(held() or object).get("saver")
        return (saver.last or "") if saver is not None else ""

    mine.iteration, mine.warn, mine.path = iteration, _logger.warning, path
    if runner.rank == 0:  # other ranks do not know when a shared checkpoint is committed
        mine.last_checkpoint = saved


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Ends all ranks with one failure report if one fails within the block. A stop that all agreed on is no failure.

    Raises:
        RankError: Another rank failed; it takes the place of an error that follows from that.
    """
    mine = rank_monitor.current()
    if mine is None:
        yield
        return
    mine.begin()
    try:
        yield
    except (Interrupted, LeavingError):
        mine.done()
        raise
    except BaseException as error:
        fail(error)
        raise
    mine.done()


def fail(error: BaseException) -> int | None:
    """Reports an error to the other ranks and returns the exit code of the run, once the failure report is printed.

    Returns:
        None if this process runs alone. Nothing is printed then.

    Raises:
        RankError: Another rank failed first.
    """
    known: int | None = getattr(error, _CODE, None)
    mine = rank_monitor.current()
    if known is not None or mine is None or not mine.at_work:
        return known
    with contextlib.suppress(ValueError):  # not in the main thread
        # Torchrun ends the other ranks as soon as one is gone. This rank must report first, which takes seconds.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    text, log = _text_of(error), ""
    if not isinstance(error, FootplateError) and mine.path:
        log = mine.path
        _append(log, "".join(traceback.format_exception(error)))
    verdict = mine.fail(error, text, _code_of(error), log=log)
    if mine.rank in verdict.ranks:
        setattr(error, _CODE, verdict.code)
        return verdict.code
    time.sleep(_BEHIND_FIRST)
    other = RankError(verdict.text.split("\n", 1)[0])
    other.exit_code = verdict.code
    setattr(other, _CODE, verdict.code)
    raise other from error


def _as_wide_as_the_screen(text: str) -> str:
    columns = terminal_width(sys.stderr)
    return wrap_log(text, columns) if columns else text


def _text_of(error: BaseException) -> str:
    if isinstance(error, FootplateError):
        return str(error)
    first = "\n  ".join(str(error).strip().split("\n")[:3])
    _, _, line = look([*traceback.walk_tb(error.__traceback__)])
    return f"{type(error).__name__}{': ' if first else ''}{first}\n  at {line}"


def _code_of(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    code = getattr(error, "exit_code", getattr(error, "code", 1))
    return code if isinstance(code, int) and 0 < code < 256 else 1


def _append(path: str, text: str) -> None:
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(printable(text))


def _at_the_end(before: Any, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Reports an uncaught error to the other ranks. An error that follows from another rank's is not printed."""
    try:
        fail(error)
    except RankError:
        return
    before(kind, error, trace)
