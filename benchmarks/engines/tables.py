"""The rows of the tables."""

from collections.abc import Iterable

from benchmarks.engines.case import ENGINES, STEP, Case, Figure
from benchmarks.engines.judge import BY_HAND, GoalResult, Lead, Spread, ratio, value
from benchmarks.engines.results import Results
from benchmarks.engines.texts import NAMES, STATES, text


def goal_result_rows(goal_results: Iterable[GoalResult]) -> list[list[str]]:
    """Returns a row for each goal: case, goal, measured value, result."""
    return [
        [
            each.case.title,
            each.goal.text,
            _measured(each),
            STATES[each.state],
        ]
        for each in goal_results
    ]


def lead_rows(found: Iterable[Lead]) -> list[list[str]]:
    """Returns a row for each case in which another engine is ahead."""
    return [
        [
            each.case.title,
            NAMES[each.engine],
            written(each.spread, 3) + text("rounds", count=each.spread.rounds),
        ]
        for each in found
    ]


def step_rows(cases: Iterable[Case], results: Results) -> list[list[str]]:
    """Returns a row for each case of iterations, with the iteration time of each engine and its ratio."""
    rows = []
    for case in cases:
        if STEP in case.figures and any(value(results, case, engine, "us") for engine in ENGINES):
            rows.append([case.title, *(_step_cell(case, each, results) for each in ENGINES)])
    return rows


def figure_rows(case: Case, results: Results) -> list[list[str]]:
    """Returns a row for each engine of a case, with all its figures."""
    return [
        [NAMES[engine], *(_figure_cell(case, engine, figure, results) for figure in case.figures)]
        for engine in case.engines
        if any(value(results, case, engine, figure.key) for figure in case.figures)
    ]


def written(spread: Spread, digits: int) -> str:
    """Formats median and quartiles; a single value has no quartiles."""
    if spread.rounds == 1:
        return f"{spread.median:,.{digits}f}"
    between = " to " if spread.low < 0 else "–"  # a dash before a minus sign is hard to read
    return f"{spread.median:,.{digits}f} ({spread.low:,.{digits}f}{between}{spread.high:,.{digits}f})"


def _step_cell(case: Case, engine: str, results: Results) -> str:
    taken = value(results, case, engine, "us")
    if taken is None:
        return ""
    baseline = ratio(results, case, engine, BY_HAND) if engine != BY_HAND else None
    return f"{taken.median:,.0f}" + (f"<br>{written(baseline, 3)}" if baseline else "")


def _figure_cell(case: Case, engine: str, figure: Figure, results: Results) -> str:
    taken = value(results, case, engine, figure.key)
    return "" if taken is None else f"{written(taken, figure.digits)} {figure.unit}".strip()


def _measured(goal_result: GoalResult) -> str:
    spread, goal = goal_result.spread, goal_result.goal
    if spread is None:
        return text("not_measured")
    digits = 3 if goal.by in ("ratio", "fastest") else 2 if goal.unit in ("MB", "%") else 1
    found = f"{written(spread, digits)} {goal.unit}".strip()
    if goal_result.baseline and goal.by == "fastest":
        found += text("baseline", engine=NAMES[goal_result.baseline])
    return found
