"""Helpers for processes forked from one that has imported torch."""

import os
import pickle
import select
import signal
import time
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
PATIENCE = 120.0


def fork(work: Callable[[], int], log: "str | os.PathLike[str] | None" = None) -> int:
    """Forks a process that runs `work` and exits with its result, or 1 after an error; returns its id.

    Args:
        work: The function to run, which returns the exit code.
        log: The file for its output; by default the output of this process.
    """
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        if log is not None:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        code = work()
    except SystemExit as left:
        code = int(str(left.code))
    except KeyboardInterrupt:
        code = 130  # before the run handles signals, as in the command line
    except BaseException as error:  # noqa: BLE001 - what it was stands in the log
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def end(process: int, patience: float = PATIENCE) -> int:
    """Waits for a process and returns its exit code, negative for a signal; kills a hanging process (-999)."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -999


def in_child(work: Callable[[], _T], patience: float = PATIENCE) -> _T:
    """Returns the result of `work` in a forked process, so that planted faults do not affect this process.

    Raises:
        RuntimeError: The process ended without a result.
    """
    reader, writer = os.pipe()

    def tell() -> int:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # log lines do not belong into the table
        _write_all(writer, pickle.dumps(work()))
        return 0

    process = fork(tell)
    os.close(writer)
    try:
        told = _read_all(reader, patience)
    finally:
        os.close(reader)
        code = end(process, 5.0)
    if code or not told:
        raise RuntimeError(f"a process ended with {code} and told nothing")
    value: _T = pickle.loads(told)
    return value


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read_all(descriptor: int, patience: float) -> bytes:
    told, until = b"", time.monotonic() + patience
    while select.select([descriptor], [], [], max(0.0, until - time.monotonic()))[0]:
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return told
        told += piece
    return b""


def replace_in(owner: Any, name: str, value: Any) -> None:
    """Plants a fault: replaces a function or class in a module or class. Raises a KeyError if it has no such name."""
    vars(owner)[name]  # otherwise, the fault would have no effect
    setattr(owner, name, value)


def nothing(*args: Any, **kwargs: Any) -> None:
    """Replaces a step to simulate that it was forgotten."""
