"""Detects how processes on this machine ended, and writes the messages about ranks that fail, die or do not respond."""

import contextlib
import faulthandler
import os
import re
import signal
import struct
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch.distributed as dist

from footplate.error_context import NOT_USER_CODE

try:
    import fcntl
except ImportError:  # not on Unix
    fcntl = None  # type: ignore[assignment]

MAX_LINES = 8
_MAX_GROUPS = 4
_CHANGE_TIMEOUT = "  set env_cfg.dist_cfg.timeout to change how long a rank may wait"
_STATE, _START_TIME, _STATUS = 0, 19, 49  # fields of /proc/PID/stat, counted after the name
_TICK = 0.002
# PIDFD_GET_INFO, from Linux 6.15 on: the exit code of a process that its parent has already collected.
_PIDFD_GET_INFO, _PIDFD_INFO, _PIDFD_INFO_EXIT = 0xC040FF0B, struct.Struct("=QQ11Ii"), 1 << 3
_LOST_CONNECTION = re.compile(r"connection (reset|closed|refused)|broken pipe|gloo|nccl|socket", re.IGNORECASE)
_dump_descriptor: int | None = None
_FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)$', re.MULTILINE)


class RankStatus(NamedTuple):
    """The current activity of a rank and its position in the run."""

    rank: int
    host: str
    phase: str = "start"  # the phase, such as "data loading" or "backward pass"
    iteration: int | None = None  # the iteration, counted from 1; None before and after training
    is_waiting: bool = False  # whether it is waiting for other ranks
    seconds: float = 0.0  # the time that it has spent in this phase, in seconds
    line: str = ""  # the line of code that it is executing, as "file:line"

    def __str__(self) -> str:
        return self.phase if self.iteration is None else f"{self.phase} of iteration {self.iteration}"


class Failure(NamedTuple):
    """An error raised on a rank."""

    status: RankStatus  # the status of the rank when it raised the error
    text: str  # the error message
    code: int  # the exit code for the error
    may_be_consequence: bool = False  # whether the failure of another rank may have caused the error
    log: str = ""  # the file with the traceback; empty if there is none


class LostRank(NamedTuple):
    """A rank that died or does not respond."""

    rank: int
    host: str
    process: int = 0  # its process id; 0 if unknown
    exit_code: int | None = None  # its exit code, negative for a signal; None if unknown
    last_status: RankStatus | None = None  # its last reported status
    seconds_ago: float = 0.0  # the time since its last status, in seconds
    line: str = ""  # the line of code at which it crashed; empty if unknown
    log: str = ""  # the file with its stack trace; empty if there is none


class FailureReport(NamedTuple):
    """The reason why all ranks exit."""

    text: str  # the message for the user
    code: int  # the exit code of all ranks
    reporters: Sequence[int]  # the ranks that print the message, one per machine
    ranks: Sequence[int]  # the ranks that caused the failure


def format_ranks(ranks: Iterable[int]) -> str:
    """Returns the ranks as text, with ranges.

    >>> format_ranks([2]), format_ranks([0, 1, 2, 5])
    ('rank 2', 'ranks 0-2, 5')
    """
    ordered = sorted(ranks)
    spans: list[list[int]] = []
    for each in ordered:
        if spans and spans[-1][1] == each - 1:
            spans[-1][1] = each
        else:
            spans.append([each, each])
    parts = [
        f"{first}" if first == last else f"{first}{'-' if last - first > 1 else ', '}{last}" for first, last in spans
    ]
    return f"rank{'s' if len(ordered) > 1 else ''} {', '.join(parts)}"


def describe_failure(
    first: Failure, same_error: Collection[int], world_size: int, hosts: Mapping[int, str]
) -> FailureReport:
    """Returns the report for an error that the ranks in `same_error` raised.

    `hosts` maps the ranks that are alive to their host names.
    """
    status, lines = first.status, first.text.split("\n")
    if len(same_error) < world_size:
        who = format_ranks(same_error)
        if status.iteration is None:
            lines[0] = f"{who} on {status.host} failed during {status.phase}: {lines[0]}"
        else:
            lines[0] = f"{who} on {status.host} failed in iteration {status.iteration}, {status.phase}: {lines[0]}"
    lines += [f"  traceback: {first.log}"] if first.log else []
    return FailureReport(_joined(lines), first.code, _reporters(hosts, status.rank), sorted(same_error))


def describe_death(dead: Sequence[LostRank], statuses: Sequence[RankStatus], hosts: Mapping[int, str]) -> FailureReport:
    """Returns the report for processes that ended without raising an error.

    Args:
        dead: The ranks that died, in the order in which their deaths were detected.
        statuses: The statuses of the other ranks.
        hosts: The host names of the ranks that are alive.
    """
    first, more = dead[0], [each.rank for each in dead[1:]]
    known = [*statuses, *([first.last_status] if first.last_status else [])]
    iterations = [each.iteration for each in known if each.iteration is not None]
    when = ""
    if iterations:
        when = f" near iteration {max(iterations)}"
    elif first.last_status and first.last_status.phase != "start":
        when = f" during {first.last_status.phase}"
    code = first.exit_code
    how = "died without an error message" if code is None else describe_exit_code(code)
    if code is None:
        cause = "the kernel may have killed it for lack of memory; check dmesg"
    elif code == -9:
        cause = "if no one sent SIGKILL, the kernel's OOM killer probably did; check dmesg"
    elif code >= 0:
        cause = "os._exit() was called, or native code exited: Python raised no error"
    else:
        cause = f"stack trace: {first.log}" if first.log else ""
    lines = [f"rank {first.rank} on {first.host} {how}{when}"]
    lines += [f"  at {first.line}"] if first.line else []
    lines += [f"  process {first.process}{_last_seen(first)}"] if first.process else []
    lines += [f"  {cause}"] if cause else []
    lines += [f"  {format_ranks(more)} died too"] if more else []
    lines += [f"  {format_ranks(hosts)} stopped because of {'them' if more else 'it'}"] if hosts else []
    code = 137 if code is None else 128 - code if code < 0 else code or 1  # the shell's code for a signal
    return FailureReport(_joined(lines), code, _reporters(hosts), sorted(each.rank for each in dead))


def _not_responding(lost: LostRank) -> str:
    who = f"rank {lost.rank} on {lost.host}{f', process {lost.process},' if lost.process else ''}"
    return f"{who} does not respond: it is gone, suspended or busy in native code{_last_seen(lost)}"


def _last_seen(lost: LostRank) -> str:
    if lost.last_status is None:
        return ""
    line = f", {lost.last_status.line}" if lost.last_status.line else ""
    return f", last seen {lost.seconds_ago:.1f} s earlier: {lost.last_status}{line}"


def describe_timeout(
    statuses: Sequence[RankStatus], limit: float, silent: Sequence[LostRank], hosts: Mapping[int, str]
) -> FailureReport:
    """Returns the report for ranks that timed out after `limit` seconds.

    `silent` lists the ranks that did not respond.
    """
    late = [each for each in statuses if not each.is_waiting]
    waiting = [each for each in statuses if each.is_waiting]
    ranks = sorted(each.rank for each in late) + sorted(each.rank for each in silent)
    awaited = format_ranks(ranks) if ranks else "each other"
    lines = [f"{format_ranks(each.rank for each in waiting)} waited for {awaited} for {limit:.0f} s"]
    lines += [f"  {line}" for line in _status_lines(late, with_code=True)]
    lines += [f"  {_not_responding(each)}" for each in silent[:_MAX_GROUPS]]
    lines += [f"  {line}" for line in _status_lines(waiting, with_code=not late and not silent)]
    return FailureReport(_joined([*lines, _CHANGE_TIMEOUT]), 1, _reporters(hosts), ranks)


def describe_silence(
    first: LostRank, status: RankStatus, hosts: Mapping[int, str], text: str = "", code: int = 1
) -> FailureReport:
    """Returns the report of a rank that gets no response from rank 0.

    Args:
        first: Rank 0.
        status: The status of the reporting rank.
        hosts: The host names of the other ranks.
        text: The message of an error that the reporting rank raised in the meantime.
        code: The exit code for that error.
    """
    lines = [_not_responding(first), *(f"  {line}" for line in _status_lines([status], with_code=True))]
    lines += [f"  {line}" for line in text.split("\n")[:3]] if text else []
    return FailureReport(_joined([*lines, _CHANGE_TIMEOUT]), code, _reporters(hosts), [first.rank])


def describe_waiting(statuses: Sequence[RankStatus], seconds: float) -> str:
    """Returns the warning to log while ranks wait for others.

    It is empty if no rank has waited for at least half of `seconds`.
    """
    waiting = [each for each in statuses if each.is_waiting and each.seconds >= seconds / 2]
    late = [each for each in statuses if not each.is_waiting]
    groups = _grouped(waiting)
    if not waiting or (not late and len(groups) == 1):
        return ""
    parts = [
        f"{format_ranks(each.rank for each in group)} on {group[0].host}: in {group[0]} "
        f"for {max(each.seconds for each in group):.0f} s"
        for group in _grouped(late)[:_MAX_GROUPS]
    ]
    parts += [f"{format_ranks(each.rank for each in group)}: waiting in {group[0]}" for group in groups[:_MAX_GROUPS]]
    return "; ".join(parts)


def _status_lines(statuses: Sequence[RankStatus], *, with_code: bool) -> list[str]:
    """Returns one line for each group of ranks in the same phase."""
    lines = []
    for group in _grouped(statuses)[:_MAX_GROUPS]:
        hosts = sorted({each.host for each in group})
        where = f" on {hosts[0]}" if len(hosts) == 1 else ""
        line = f", {group[0].line}" if with_code and group[0].line else ""
        seconds = max(each.seconds for each in group)
        lines.append(f"{format_ranks(each.rank for each in group)}{where}: {group[0]} for {seconds:.0f} s{line}")
    return lines


def _grouped(statuses: Sequence[RankStatus]) -> list[list[RankStatus]]:
    groups: dict[tuple[Any, ...], list[RankStatus]] = {}
    for each in statuses:
        groups.setdefault((each.iteration, each.phase), []).append(each)
    return list(groups.values())


def _reporters(hosts: Mapping[int, str], failed: int | None = None) -> list[int]:
    """Returns the ranks that print the report: the failed rank, and the lowest rank on each of the other machines."""
    chosen: dict[str, int] = {}
    for rank in sorted(hosts, reverse=True):
        chosen[hosts[rank]] = rank
    if failed is not None and failed in hosts:
        chosen[hosts[failed]] = failed
    return sorted(chosen.values())


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines[:MAX_LINES])


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
