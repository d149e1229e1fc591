"""Checks which goals are met, and where another engine is ahead."""

import dataclasses
import statistics
from collections.abc import Iterable
from typing import Literal, NamedTuple

from benchmarks.engines.case import Case, Goal
from benchmarks.engines.results import Results

OURS = "footplate"
BY_HAND = "bare"


class Spread(NamedTuple):
    """Median and quartiles over rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Returns the spread of values, or None if there are no values."""
        ordered = sorted(values)
        if not ordered:
            return None
        if len(ordered) == 1:
            return cls(ordered[0], ordered[0], ordered[0], 1)
        low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(statistics.median(ordered), low, high, len(ordered))


@dataclasses.dataclass(frozen=True)
class GoalResult:
    """A goal and its result; `baseline` is the engine of the comparison."""

    case: Case
    goal: Goal
    state: Literal["met", "missed", "open"]
    spread: Spread | None = None
    baseline: str = ""


class Lead(NamedTuple):
    """A case in which another engine is ahead, with the ratio of its figure to footplate's."""

    case: Case
    engine: str
    spread: Spread


def judge(cases: Iterable[Case], results: Results) -> list[GoalResult]:
    """Returns a goal_result for each goal."""
    return [_goal_result(case, goal, results) for case in cases for goal in case.goals]


def leads(cases: Iterable[Case], results: Results) -> list[Lead]:
    """Returns the cases in which an engine other than the bare loop is ahead of footplate by the median ratio."""
    found = []
    for case in cases:
        for engine in case.engines:
            spread = ratio(results, case, engine, OURS) if engine not in (OURS, BY_HAND) else None
            if spread is not None and spread.median < 1:
                found.append(Lead(case, engine, spread))
    return found


def ratio(results: Results, case: Case, engine: str, base: str, figure: str = "") -> Spread | None:
    """Returns the ratio of an engine's figure to that of another engine in the same round."""
    figure = figure or case.figures[0].key
    return _compared(results, case, (engine, figure), (base, figure), difference=False)


def value(results: Results, case: Case, engine: str, figure: str) -> Spread | None:
    """Returns an engine's figure."""
    return Spread.of(results.by_round(case.name, engine, figure).values())


def _compared(
    results: Results, case: Case, ours: tuple[str, str], theirs: tuple[str, str], *, difference: bool
) -> Spread | None:
    one, other = (results.by_round(case.name, *each) for each in (ours, theirs))
    shared = sorted(one.keys() & other.keys())
    if difference:
        return Spread.of(one[number] - other[number] for number in shared)
    # A delay within the noise may be negative, for which a ratio is meaningless.
    return Spread.of(one[number] / other[number] for number in shared if other[number] > 0)


def _goal_result(case: Case, goal: Goal, results: Results) -> GoalResult:
    if goal.by == "fastest":
        return _relative_to_fastest(case, goal, results)
    if goal.by == "value":
        spread, baseline = value(results, case, OURS, goal.figure), ""
    else:
        theirs, baseline = (goal.against, goal.figure), goal.against
        spread = _compared(results, case, (OURS, goal.figure), theirs, difference=goal.by == "difference")
    if spread is None:
        return GoalResult(case, goal, "open", None, baseline)
    return GoalResult(case, goal, "met" if spread.median <= goal.at_most else "missed", spread, baseline)


def _relative_to_fastest(case: Case, goal: Goal, results: Results) -> GoalResult:
    """Checks whether the lower quartile of the ratio to the fastest engine is within the limit."""
    others = [each for each in case.engines if each not in (OURS, BY_HAND)]
    known = {each: ratio(results, case, OURS, each, goal.figure) for each in others}
    measured = {engine: spread for engine, spread in known.items() if spread is not None}
    if not measured:
        return GoalResult(case, goal, "open")
    fastest = max(measured, key=lambda engine: measured[engine].median)
    spread = measured[fastest]
    return GoalResult(case, goal, "met" if spread.low <= goal.at_most else "missed", spread, fastest)
