"""Reads the exit codes of other processes on this machine, and writes and reads crash dumps."""

import contextlib
import faulthandler
import os
import re
import signal
import struct
import time

import torch.distributed as dist

from footplate.error_context import NOT_USER_CODE

try:
    import fcntl
except ImportError:  # not on Unix
    fcntl = None  # type: ignore[assignment]

_STATE, _START_TIME, _STATUS = 0, 19, 49  # fields of /proc/PID/stat, counted after the name
_TICK = 0.002
# PIDFD_GET_INFO, from Linux 6.15 on: the exit code of a process that its parent has already collected.
_PIDFD_GET_INFO, _PIDFD_INFO, _PIDFD_INFO_EXIT = 0xC040FF0B, struct.Struct("=QQ11Ii"), 1 << 3
_LOST_CONNECTION = re.compile(r"connection (reset|closed|refused)|broken pipe|gloo|nccl|socket", re.IGNORECASE)
_dump_descriptor: int | None = None
_FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)$', re.MULTILINE)


class LocalProcess:
    """Another process on this machine.

    Args:
        process: The process id.
        began: The start time that the process reported. It distinguishes the process from one with the same id on
            another machine with the same host name.
    """

    def __init__(self, process: int, began: str) -> None:
        self._process, self._began = process, began
        self._descriptor: int | None = None
        if began and start_time_of(process) == began:
            with contextlib.suppress(AttributeError, OSError):  # not supported here, or the process is gone
                self._descriptor = os.pidfd_open(process)

    def exit_code(self, timeout: float) -> int | None:
        """Returns the exit code, negative for a signal, or None if it is unknown.

        Args:
            timeout: The number of seconds to wait for the process to end.
        """
        deadline = time.monotonic() + timeout
        while True:
            status = self._status()
            if status is not None:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= deadline:
                return None
            time.sleep(_TICK)

    def _status(self) -> int | None:
        """Returns the wait status of the process, or None if it is unknown.

        The status is read from /proc while the process is a zombie, and from its pidfd afterwards.
        """
        fields = _stat_fields(self._process)
        if fields and fields[_START_TIME] == self._began:
            return int(fields[_STATUS]) if fields[_STATE] in "ZX" else None
        if self._descriptor is None or fcntl is None:
            return None
        try:
            info = fcntl.ioctl(self._descriptor, _PIDFD_GET_INFO, _PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
        except OSError:  # an older kernel
            return None
        mask, *_, status = _PIDFD_INFO.unpack(info)
        return status if mask & _PIDFD_INFO_EXIT else None

    def close(self) -> None:
        """Closes the descriptor of the process."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def start_time_of(process: int) -> str:
    """Returns the start time of a process on this machine in clock ticks, or "" if unknown."""
    fields = _stat_fields(process)
    return fields[_START_TIME] if fields else ""


def describe_exit_code(code: int) -> str:
    """Describes how a process ended.

    >>> describe_exit_code(-9), describe_exit_code(3)
    ('was killed by SIGKILL', 'exited with code 3')
    """
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def enable_crash_dump(descriptor: int) -> None:
    """Makes this process write its stack to `descriptor` if it crashes, unless faulthandler is already enabled."""
    global _dump_descriptor
    if _dump_descriptor is not None or not faulthandler.is_enabled():
        faulthandler.enable(descriptor, all_threads=False)
        _dump_descriptor = descriptor


def disable_crash_dump(descriptor: int | None = None) -> None:
    """Disables the crash dump. Call it before the descriptor is closed, because its number may be reused."""
    global _dump_descriptor
    if _dump_descriptor is not None and descriptor in (None, _dump_descriptor):
        faulthandler.disable()
        _dump_descriptor = None


def innermost_line_of_dump(dump: str) -> str:
    """Returns the innermost line of user code in a crash dump, or "" if there is none."""
    frames = list(_FRAME.finditer(dump))
    user_frames = [each for each in frames if not each["file"].startswith(NOT_USER_CODE)]
    for each in user_frames or frames:
        relative = os.path.relpath(each["file"])
        return f"{each['file'] if relative.startswith(os.pardir) else relative}:{each['line']}, in {each['function']}"
    return ""


def indicates_lost_rank(error: BaseException) -> bool:
    """Checks whether an error, or one of its causes, may merely result from the loss of another process."""
    seen: list[BaseException] = []
    while error not in seen:
        if isinstance(error, (dist.DistError, ConnectionError)) or (
            isinstance(error, RuntimeError) and _LOST_CONNECTION.search(str(error))
        ):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__ or error
    return False


def _stat_fields(process: int) -> list[str]:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:  # the process is gone, or there is no /proc
        return []
