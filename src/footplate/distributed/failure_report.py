"""What users read when one of several processes fails, dies or keeps the others waiting."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from footplate.distributed.exit_status import describe_exit_code

MAX_LINES = 8
_MOST_PLACES = 4
_OF_MEMORY = "how the kernel ends what takes too much memory: dmesg tells"


class RankStatus(NamedTuple):
    """Where a rank is.

    Attributes:
        rank: Its number.
        host: Its machine.
        phase: What it is at: "data loading", "backward pass" ...
        iteration: In which iteration, counted from 1; None before and after training.
        waits: Whether it waits for the others there.
        seconds: How long it has been there.
        line: The line of code that it is at, "file:line".
    """

    rank: int
    host: str
    phase: str = "start"
    iteration: int | None = None
    waits: bool = False
    seconds: float = 0.0
    line: str = ""

    def __str__(self) -> str:
        return self.phase if self.iteration is None else f"{self.phase} of iteration {self.iteration}"


class Failure(NamedTuple):
    """An error of a rank.

    Attributes:
        place: Where it came.
        text: What it says.
        code: The exit code that it asks for.
        follows: Whether it may only follow from what happened to another rank.
        log: The file that holds the traceback, "" for none.
    """

    place: RankStatus
    text: str
    code: int
    follows: bool = False
    log: str = ""


class LostRank(NamedTuple):
    """A process that says nothing any more.

    Attributes:
        rank: Its number.
        host: Its machine.
        process: Its number there, 0 where that is not known.
        ending: Its exit code, negative for a signal; None where nobody can tell.
        seen: Where it was when it was seen last.
        ago: How many seconds ago that was.
        line: The line of code at which it crashed, if it told.
        log: The file that holds its stack, "" for none.
    """

    rank: int
    host: str
    process: int = 0
    ending: int | None = None
    seen: RankStatus | None = None
    ago: float = 0.0
    line: str = ""
    log: str = ""


class FailureReport(NamedTuple):
    """Why all ranks end.

    Attributes:
        text: What users read.
        code: The exit code of all.
        speakers: The ranks that say it: one on each machine.
        ranks: Those whom it is about.
    """

    text: str
    code: int
    speakers: Sequence[int]
    ranks: Sequence[int]


def format_ranks(ranks: Iterable[int]) -> str:
    """Returns "rank 2", or "ranks 0-2, 5".

    >>> format_ranks([0, 1, 2, 5])
    'ranks 0-2, 5'
    """
    ordered = sorted(ranks)
    spans: list[list[int]] = []
    for each in ordered:
        if spans and spans[-1][1] == each - 1:
            spans[-1][1] = each
        else:
            spans.append([each, each])
    words = [
        f"{first}" if first == last else f"{first}{'-' if last - first > 1 else ', '}{last}" for first, last in spans
    ]
    return f"rank{'s' if len(ordered) > 1 else ''} {', '.join(words)}"


def report_failure(first: Failure, alike: Collection[int], world: int, hosts: Mapping[int, str]) -> FailureReport:
    """Returns what is said when a rank raised an error.

    Args:
        first: The first error of the first rank.
        alike: The ranks that say the same.
        world: How many ranks there are.
        hosts: The machines of those that are alive.
    """
    place, lines = first.place, first.text.split("\n")
    if len(alike) < world:
        who = format_ranks(alike)
        if place.iteration is None:
            lines[0] = f"{who} on {place.host} failed at {place.phase}: {lines[0]}"
        else:
            lines[0] = f"{who} on {place.host} failed in iteration {place.iteration}, {place.phase}: {lines[0]}"
    lines += [f"  traceback: {first.log}"] if first.log else []
    return FailureReport(_joined(lines), first.code, _speakers(hosts, place.rank), sorted(alike))


def report_death(dead: Sequence[LostRank], places: Sequence[RankStatus], hosts: Mapping[int, str]) -> FailureReport:
    """Returns what is said when processes ended without a word.

    Args:
        dead: Those that did, the first one first.
        places: Where the others are.
        hosts: The machines of those that are alive.
    """
    first, more = dead[0], [each.rank for each in dead[1:]]
    how = "died without an error message" if first.ending is None else describe_exit_code(first.ending)
    lines = [f"rank {first.rank} on {first.host} {how}{_near(first, places)}"]
    lines += [f"  at {first.line}"] if first.line else []
    lines += [f"  process {first.process}{_last_seen(first)}"] if first.process else []
    lines += [f"  {_why(first)}"] if _why(first) else []
    lines += [f"  {format_ranks(more)} died too"] if more else []
    lines += [f"  {format_ranks(hosts)} ended with {'them' if more else 'it'}"] if hosts else []
    ranks = sorted(each.rank for each in dead)
    return FailureReport(_joined(lines), _code_of(first.ending), _speakers(hosts), ranks)


def _near(dead: LostRank, places: Sequence[RankStatus]) -> str:
    known = [*places, *([dead.seen] if dead.seen else [])]
    about = [each.iteration for each in known if each.iteration is not None]
    if about:
        return f" near iteration {max(about)}"
    return f" at {dead.seen.phase}" if dead.seen and dead.seen.phase != "start" else ""


def _no_answer(lost: LostRank) -> str:
    who = f"rank {lost.rank} on {lost.host}{f', process {lost.process},' if lost.process else ''}"
    return f"{who} does not respond: it is gone, suspended or busy in native code{_last_seen(lost)}"


def _last_seen(dead: LostRank) -> str:
    if dead.seen is None:
        return ""
    return f", {dead.ago:.1f} s before: {dead.seen}{f', {dead.seen.line}' if dead.seen.line else ''}"


def _why(dead: LostRank) -> str:
    if dead.ending is None:
        return f"a SIGKILL without a word is {_OF_MEMORY}"
    if dead.ending == -9:
        return f"a SIGKILL that nobody sent is {_OF_MEMORY}"
    if dead.ending >= 0:
        return "os._exit() was called, or native code exited: Python raised no error"
    return f"stack trace: {dead.log}" if dead.log else ""


def _code_of(ending: int | None) -> int:
    """The exit code of all: a shell's for a signal, and never that of success."""
    if ending is None:
        return 137
    return 128 - ending if ending < 0 else ending or 1


def report_timeout(
    places: Sequence[RankStatus], limit: float, silent: Sequence[LostRank], hosts: Mapping[int, str]
) -> FailureReport:
    """Returns what is said when ranks waited for each other for too long.

    Args:
        places: Where they are.
        limit: The seconds that they may wait.
        silent: Ranks that do not answer.
        hosts: The machines of those that are alive.
    """
    missing = [each for each in places if not each.waits]
    waiting = [each for each in places if each.waits]
    ranks = sorted(each.rank for each in missing) + sorted(each.rank for each in silent)
    who = format_ranks(ranks) if ranks else ""
    late = f"{format_ranks(each.rank for each in waiting)} waited for {who or 'each other'} for {limit:.0f} s"
    lines = [late, *(f"  {line}" for line in _lines_of(missing, with_line=True))]
    lines += [f"  {_no_answer(each)}" for each in silent[:_MOST_PLACES]]
    lines += [f"  {line}" for line in _lines_of(waiting, with_line=not missing and not silent)]
    lines += ["  set env_cfg.dist_cfg.timeout to change how long a rank may wait"]
    return FailureReport(_joined(lines), 1, _speakers(hosts), ranks)


def report_silence(
    first: LostRank, place: RankStatus, hosts: Mapping[int, str], text: str = "", code: int = 1
) -> FailureReport:
    """Returns what a rank says when the first one, at which all meet, does not answer.

    Args:
        first: The first rank.
        place: Where the one is that says it.
        hosts: The machines of the others.
        text: An error that this rank came to meanwhile.
        code: The exit code that it asks for, where it is this rank's own mistake.
    """
    lines = [_no_answer(first), *(f"  {line}" for line in _lines_of([place], with_line=True))]
    lines += [f"  {line}" for line in text.split("\n")[:3]] if text else []
    lines += ["  set env_cfg.dist_cfg.timeout to change how long a rank may wait"]
    return FailureReport(_joined(lines), code, _speakers(hosts), [first.rank])


def describe_waiting(places: Sequence[RankStatus], seconds: float) -> str:
    """Returns the line that is logged while ranks wait, "" where nobody keeps anybody waiting."""
    waiting = [each for each in places if each.waits and each.seconds >= seconds / 2]
    missing = [each for each in places if not each.waits]
    groups = _grouped(waiting)
    if not waiting or (not missing and len(groups) == 1):
        return ""
    told = [
        f"{format_ranks(each.rank for each in group)} on {group[0].host}: in {group[0]} "
        f"for {max(each.seconds for each in group):.0f} s"
        for group in _grouped(missing)[:_MOST_PLACES]
    ]
    told += [f"{format_ranks(each.rank for each in group)}: waiting in {group[0]}" for group in groups[:_MOST_PLACES]]
    return "; ".join(told)


def _lines_of(places: Sequence[RankStatus], *, with_line: bool) -> list[str]:
    """One line for all that are at the same place."""
    lines = []
    for group in _grouped(places)[:_MOST_PLACES]:
        hosts = sorted({each.host for each in group})
        where = f" on {hosts[0]}" if len(hosts) == 1 else ""
        line = f", {group[0].line}" if with_line and group[0].line else ""
        seconds = max(each.seconds for each in group)
        lines.append(f"{format_ranks(each.rank for each in group)}{where}: {group[0]} for {seconds:.0f} s{line}")
    return lines


def _grouped(places: Sequence[RankStatus]) -> list[list[RankStatus]]:
    groups: dict[tuple[Any, ...], list[RankStatus]] = {}
    for each in places:
        groups.setdefault((each.iteration, each.phase), []).append(each)
    return list(groups.values())


def _speakers(hosts: Mapping[int, str], first: int | None = None) -> list[int]:
    """One rank of each machine, on its own machine the one that failed."""
    chosen: dict[str, int] = {}
    for rank in sorted(hosts, reverse=True):
        chosen[hosts[rank]] = rank
    if first is not None and first in hosts:
        chosen[hosts[first]] = first
    return sorted(chosen.values())


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines[:MAX_LINES])
