"""Formats errors; errors of user code are shown with the user's lines, without those of footplate."""

import errno
import os
import re
import sysconfig
import traceback
from typing import TYPE_CHECKING

from footplate.errors import FootplateError

if TYPE_CHECKING:
    from footplate.engine import Runner

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARIES = tuple({_PACKAGE, *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))})
_NOT_WRITTEN = ("site-packages", "dist-packages", "torchinductor_")  # installed or generated code
_MOST_LINES = 5
_DEBUG = "--debug shows where"
# Errors while writing an open file, which do not name the file.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
# Torch passes errors of workers on as text.
_OF_A_WORKER = re.compile(r"\ACaught (\w+) in (.+?)\.\nOriginal Traceback")
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)\n(?:    (.*)\n)?', re.MULTILINE)


def describe_failure(error: Exception, place: str = "") -> tuple[str, int] | None:
    """Returns the message and the exit code of an error, or None for a bug in footplate, which keeps its traceback.

    Args:
        error: The error.
        place: The progress of the run, for an error of user code.
    """
    if isinstance(error, FootplateError):
        return f"error: {_with_own_line(error)}\n", error.exit_code
    frames = own_frames(error)
    if frames:
        lines = [f"error: {_summary(error)}", *_told(frames, _MOST_LINES - 2 - bool(place))]
        lines += [f"  {place}"] if place else []
        return "\n".join([*lines, "  --debug shows the whole traceback"]) + "\n", 1
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _OF_THE_DISK):
        what = "write" if error.filename is None else f"use '{error.filename}'"
        return f"error: cannot {what}: {error.strerror}\n", 2
    return None


def raise_of_module(stage: str, error: BaseException, runner: "Runner") -> None:
    """Raises an error that names the module of the model in which a torch operation failed, and its config section.

    Does nothing for an error of user code, which is shown with its lines, or in a distributed run, which reports errors
    itself.

    Args:
        stage: What the run was doing.
        error: The original error.
        runner: The run.

    Raises:
        TrialError: The operation failed in a module of the model.
    """
    if not isinstance(error, Exception) or runner.distributed or own_frames(error):
        return
    from footplate.tools.failing_module import module_error

    told = module_error(stage, error, runner.cfg)
    if told is not None:
        raise told from error


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Returns the lines of user code in an error's traceback, the innermost first.

    User code is code outside footplate, the standard library and installed packages.
    """
    frames = list(traceback.extract_tb(error.__traceback__))
    if _OF_A_WORKER.match(str(error)):
        found = _FRAME.findall(str(error))
        frames += [traceback.FrameSummary(file, int(line), name, line=text) for file, line, name, text in found]
    if error.__cause__ is not None:
        frames += reversed(own_frames(error.__cause__))
    return [frame for frame in reversed(frames) if _is_own(frame.filename)]


def _is_own(file: str) -> bool:
    if file.startswith("<") or any(part in file for part in _NOT_WRITTEN):
        return False
    return not os.path.abspath(file).startswith(tuple(f"{folder}{os.sep}" for folder in _LIBRARIES))


def _told(frames: list[traceback.FrameSummary], most: int) -> list[str]:
    words = ("at", *["called at"] * len(frames))
    return [
        f"  {word} {_place_of(frame)}, in {frame.name}: {frame.line}"
        for word, frame in list(zip(words, frames, strict=False))[:most]
    ]


def _place_of(frame: traceback.FrameSummary) -> str:
    near = os.path.relpath(frame.filename)
    return f"{frame.filename if near.startswith(os.pardir) else near}:{frame.lineno}"


def _summary(error: Exception) -> str:
    name, text = type(error).__name__, str(error).strip()
    worker = _OF_A_WORKER.match(text)
    if worker:
        return f"{text.splitlines()[-1]}, in {worker[2]}"
    first = text.partition("\n")[0]
    return f"{name}: {first}" if first else name


def _with_own_line(error: FootplateError) -> FootplateError:
    """Adds the line of user code that raised the cause of an error."""
    frames = own_frames(error.__cause__) if error.__cause__ is not None and _DEBUG in error.notes else []
    if frames:
        line = f"raised at {_place_of(frames[0])}"
        error.notes = tuple(f"{line}; {_DEBUG}" if note == _DEBUG else note for note in error.notes)
    return error
