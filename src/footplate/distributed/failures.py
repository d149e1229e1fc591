"""Reports errors in distributed runs, so that the cause is printed once and recorded by torchrun."""

import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar

import torch.distributed as dist

from footplate.distributed.collectives import get_rank, get_world_size
from footplate.distributed.process_group import rank_from_environment
from footplate.errors import RankError, StorageError
from footplate.messages import describe_exception

_Error = TypeVar("_Error", bound=BaseException)
LOST_RANK = "another rank has ended, or did not respond within the time limit"
# In seconds. During this time, the launcher ends this rank, because the rank that reported the cause has exited.
_AFTER_RANK_0 = 1.0
_AFTER_CAUSE = 5.0
_LOST_CONNECTION = re.compile(r"connection (reset|closed|refused)|broken pipe|gloo|nccl", re.IGNORECASE)


def is_lost_connection(error: BaseException | None) -> bool:
    """Checks whether an error may have been caused by another rank that ended or timed out."""
    if get_world_size() == 1:
        return False
    while error is not None and not isinstance(error, (RankError, StorageError)):  # these state their cause
        if isinstance(error, (dist.DistError, ConnectionError)) or (
            isinstance(error, RuntimeError) and _LOST_CONNECTION.search(str(error))
        ):
            return True
        error = error.__cause__
    return False


def await_cause(error: _Error) -> _Error | RankError:
    """Waits until the rank that failed first can report its error. Returns the error that this rank should report.

    If this rank lost the connection to another rank, waits 5 seconds and returns a RankError. Any other error is
    returned at once on rank 0, and after 1 second on all other ranks, since all ranks may have raised the same error.
    Restores the default SIGTERM handler, so that a launcher such as torchrun can end this process meanwhile.
    """
    is_consequence = is_lost_connection(error)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if is_consequence or rank_from_environment():
        sys.stdout.flush()
        time.sleep(_AFTER_CAUSE if is_consequence else _AFTER_RANK_0)
    if not is_consequence:
        return error
    lost = RankError(
        LOST_RANK,
        notes=[
            describe_exception(error).partition(". ")[0],
            "Check the errors on the other ranks. To change the time limit, set env_cfg.dist_cfg.timeout (in seconds).",
        ],
    )
    lost.exit_code = 1
    lost.__cause__ = error
    return lost


def record_error(message: str, document: Mapping[str, Any]) -> None:
    """Writes this rank's error to the file that torchrun reads. Does nothing if torchrun did not start this process.

    Args:
        message: The error message.
        document: The error as data, for programs that read the file.
    """
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": message, "timestamp": str(int(time.time()))}
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"message": {"message": message, "extraInfo": extra}, "document": dict(document)}, file)


def report_uncaught_errors() -> None:
    """Installs an exception hook that reports a script's uncaught errors in the same way as `footplate train`.

    The hook calls `await_cause` and `record_error`.
    """
    show = sys.excepthook

    def report(error_class: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        shown = await_cause(error)
        record_error(f"rank {get_rank()}: {''.join(traceback.format_exception(shown))}", {})
        show(type(shown), shown, shown.__traceback__)

    sys.excepthook = report
