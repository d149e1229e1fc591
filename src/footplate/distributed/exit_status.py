"""How another process of this machine ended, and what a process says last when it crashes."""

import contextlib
import faulthandler
import os
import re
import signal
import struct
import sysconfig
import time

import torch.distributed as dist

try:
    import fcntl
except ImportError:  # no Unix
    fcntl = None  # type: ignore[assignment]

_STATE, _BEGAN, _STATUS = 0, 19, 49  # in /proc/N/stat, behind the name
_TICK = 0.002
# Of Linux 6.15: what became of a process that its parent has waited for already.
_GET_INFO, _INFO, _WITH_EXIT = 0xC040FF0B, struct.Struct("=QQ11Ii"), 1 << 3
_LOST = re.compile(r"connection (reset|closed|refused)|broken pipe|gloo|nccl|socket", re.IGNORECASE)
_listener: int | None = None
_FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)$', re.MULTILINE)
_NOT_USERS = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    *{os.path.join(path, "") for path in sysconfig.get_paths().values()},
    "<",
)


class LocalProcess:
    """Another process of this machine.

    Args:
        process: Its number.
        began: When it began, as it told; another process may have the number, on a machine of the same name.
    """

    def __init__(self, process: int, began: str) -> None:
        self._process, self._began = process, began
        self._descriptor: int | None = None
        if began and start_time_of(process) == began:
            with contextlib.suppress(AttributeError, OSError):  # not this system, or it is gone again
                self._descriptor = os.pidfd_open(process)

    def ending(self, within: float) -> int | None:
        """Returns the exit code, negative for a signal; None where nobody can tell.

        Args:
            within: The seconds in which it ends.
        """
        until = time.monotonic() + within
        while True:
            status = self._status()
            if status is not None:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= until:
                return None
            time.sleep(_TICK)

    def _status(self) -> int | None:
        """What its parent is told, or was: the first as long as the parent has not asked."""
        fields = _fields_of(self._process)
        if fields and fields[_BEGAN] == self._began:
            return int(fields[_STATUS]) if fields[_STATE] in "ZX" else None
        if self._descriptor is None or fcntl is None:
            return None
        try:
            told = fcntl.ioctl(self._descriptor, _GET_INFO, _INFO.pack(_WITH_EXIT, *[0] * 13))
        except OSError:  # an older system
            return None
        mask, *_, status = _INFO.unpack(told)
        return status if mask & _WITH_EXIT else None

    def close(self) -> None:
        """Forgets it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def start_time_of(process: int) -> str:
    """Returns when a process of this machine began, in the system's own unit; "" where it does not tell."""
    fields = _fields_of(process)
    return fields[_BEGAN] if fields else ""


def describe_exit_code(code: int) -> str:
    """Returns what an exit code says of the end of a process.

    >>> describe_ending(-9), describe_ending(3)
    ('was killed by SIGKILL', 'exited with code 3')
    """
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def enable_crash_dump(descriptor: int) -> None:
    """Has a crash of this process write its stack there, unless somebody wants it elsewhere."""
    global _listener
    if _listener is not None or not faulthandler.is_enabled():
        faulthandler.enable(descriptor, all_threads=False)
        _listener = descriptor


def disable_crash_dump(descriptor: int | None = None) -> None:
    """Takes that back, before the descriptor is closed and means another file."""
    global _listener
    if _listener is not None and descriptor in (None, _listener):
        faulthandler.disable()
        _listener = None


def innermost_user_line(words: str) -> str:
    """Returns the innermost line of the user's own code in the last words of a process, "" where there is none."""
    frames = list(_FRAME.finditer(words))
    own = [each for each in frames if not each["file"].startswith(_NOT_USERS)]
    for each in own or frames:
        near = os.path.relpath(each["file"])
        return f"{each['file'] if near.startswith(os.pardir) else near}:{each['line']}, in {each['function']}"
    return ""


def indicates_lost_rank(error: BaseException) -> bool:
    """Checks whether an error, or one behind it, may only say that another process is gone."""
    seen: list[BaseException] = []
    while error not in seen:
        if isinstance(error, (dist.DistError, ConnectionError)) or (
            isinstance(error, RuntimeError) and _LOST.search(str(error))
        ):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__ or error
    return False


def _fields_of(process: int) -> list[str]:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:  # it is gone, or the system has no such file
        return []
