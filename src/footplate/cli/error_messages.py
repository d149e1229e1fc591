"""Formats errors. For errors in user code and installed packages, shows only the traceback lines of this code."""

import errno
import itertools
import os
import re
import signal
import sysconfig
from traceback import FrameSummary, extract_tb
from typing import TYPE_CHECKING, Any

from footplate.advice import advice_about, advise
from footplate.errors import PACKAGES, FootplateError, shown_path
from footplate.interrupts import SIGNALED
from footplate.messages import describe_exception

if TYPE_CHECKING:
    from footplate.engine import Runner

_LIBRARIES = (PACKAGES, *(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")))
_INSTALLED = re.compile(r"(?:site|dist)-packages[/\\](?!torch|numpy)")
_NOT_WRITTEN = ("site-packages", "dist-packages", "torchinductor_")  # installed or generated code
_MAX_LINES = 5
# Errors from writing to an open file, which do not include the file name.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
# Torch re-raises worker errors in the main process, with the original traceback in the text.
_WORKER_ERROR = re.compile(r"\ACaught (\w+) in (.+?)\.\nOriginal Traceback")
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)\n(?:    (.*)\n)?', re.MULTILINE)


def describe_error(error: Exception, progress: str = "", *, option: str = "--debug") -> tuple[str, int] | None:
    """Formats an error for the terminal.

    Args:
        error: The error.
        progress: A line about the progress of the run, to add to errors in user code and installed packages.
        option: The option that shows the traceback, for the hint.

    Returns:
        The message and the exit code, or None for a bug in footplate, whose traceback should be printed.
    """
    advice = advise(error)
    if isinstance(error, FootplateError):
        source = error.__cause__ if error.shows_cause else None if error.origin else error
        frames = user_frames(source) if source is not None else []
        line = _location(frames[0]) if frames else ""
        place = f"raised at {line}; " if line not in error.message else ""
        hint = f"  {place}{option} shows the traceback\n" if frames or error.shows_cause else ""
        return "\n".join([f"error: {error}", *(f"  {line}" for line in advice), hint]), error.exit_code
    is_of_system = isinstance(error, OSError) and (error.filename is not None or error.errno in _DISK_ERRORS)
    frames = user_frames(error)
    if not frames and not is_of_system:  # an error in an installed package that footplate has not called
        inner = itertools.takewhile(lambda frame: not frame.filename.startswith(PACKAGES), _frames(error))
        # footplate may have called torch and NumPy with wrong arguments.
        frames = [frame for frame in inner if _INSTALLED.search(frame.filename)]
    if frames or advice_about(error):
        lines = [f"error: {_summarize(error)}"]
        for number, frame in enumerate(frames[: _MAX_LINES - 2 - bool(progress)]):
            lines.append(f"  {'called at' if number else 'at'} {_location(frame)}, in {frame.name}: {frame.line}")
        details = [progress, *getattr(error, "__notes__", ()), f"{option} shows the whole traceback"]
        lines += [f"  {detail}" for detail in details if detail]
        return "\n".join(lines) + "\n", 1
    if isinstance(error, OSError) and is_of_system:
        action = "read or write" if error.filename is None else f"use '{error.filename}'"
        return f"error: cannot {action}: {error.strerror}\n", 2
    return None


def error_as_data(error: BaseException, message: str, code: int) -> dict[str, Any]:
    """Returns an error as a dict for `--json`.

    `message` is the text shown in the terminal. If it is empty, the error's class and text are used. `code` is the
    command's exit code.
    """
    if isinstance(error, KeyboardInterrupt):
        name = signal.Signals(code - SIGNALED).name
        return {"type": "KeyboardInterrupt", "message": f"interrupted by {name}", "notes": [], "exit_code": code}
    if not isinstance(error, FootplateError):
        lines = (message or _summarize(error)).removeprefix("error: ").splitlines()
        return {"type": type(error).__name__, "message": lines[0], "notes": lines[1:], "exit_code": code}
    data: dict[str, Any] = {"type": type(error).__name__, "message": error.message}
    if error.origin is not None:
        data |= {"file": error.origin.file, "line": error.origin.line or None}
    if error.key:
        data["key"] = error.key
    if error.has_found:
        data["found"] = repr(error.found)
    if error.suggestion:
        data["suggestion"] = error.suggestion
    return {**data, "notes": list(error.notes), "exit_code": code}


def raise_module_error(stage: str, error: BaseException, runner: "Runner") -> None:
    """Raises an error that shows the module or optimizer in which a torch operation failed, and its config section.

    Does nothing if the error occurred in user code (the message then shows the source lines), if the connection to
    another rank was lost, or if no module or optimizer is responsible. `stage` is the stage of the run, such as "the
    test".

    Raises:
        ComponentError: The operation failed in a module of the model or in the optimizer.
    """
    from footplate.distributed.failures import is_lost_connection

    if not isinstance(error, Exception) or user_frames(error) or is_lost_connection(error):
        return
    from footplate.tools.failing_module import module_error

    found = module_error(stage, error, runner.cfg)
    if found is not None:
        raise found from error


def user_frames(error: BaseException) -> list[FrameSummary]:
    """Returns the frames of user code in an error's traceback, innermost first.

    User code is code outside footplate, the standard library and installed packages.
    """
    return [
        frame
        for frame in _frames(error)
        if not frame.filename.startswith("<")
        and not any(part in frame.filename for part in _NOT_WRITTEN)
        and not os.path.abspath(frame.filename).startswith(_LIBRARIES)
    ]


def _frames(error: BaseException) -> list[FrameSummary]:
    """Returns the traceback frames of an error and its causes, innermost first."""
    frames = list(extract_tb(error.__traceback__))
    if _WORKER_ERROR.match(str(error)):
        found = _FRAME.findall(str(error))
        frames += [FrameSummary(file, int(line), name, line=text) for file, line, name, text in found]
    if error.__cause__ is not None:
        frames += reversed(_frames(error.__cause__))
    return frames[::-1]


def _location(frame: FrameSummary) -> str:
    return f"{shown_path(frame.filename)}:{frame.lineno}"


def _summarize(error: BaseException) -> str:
    """Returns an error's class and the first line of its message. For a worker error, describes the original error."""
    text = str(error).strip()
    worker = _WORKER_ERROR.match(text)
    return f"{text.splitlines()[-1]}, in {worker[2]}" if worker else describe_exception(error)
