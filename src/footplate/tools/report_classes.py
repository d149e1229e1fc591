"""Arranges the per-class results of runs for a report."""

from collections.abc import Sequence
from typing import Any

from footplate.tools.report_curves import short
from footplate.tools.runs import PerClassResults, Run

_MOST_VALUES = 100_000  # of all classes, columns and steps
_LEAST_STEPS = 3


def class_history(runs: Sequence[Run], best_steps: Sequence[float | None]) -> list[dict[str, Any]]:
    """Returns the per-class results over the runs, by dataset, metric and mode.

    Steps are left out if there are too many values, but never the first, the best and the last one.

    Args:
        runs: The runs.
        best_steps: The iteration of the best validation of each run.

    Returns:
        A dict for each table: its `set`, `metric` and `mode`, and in `runs` for each run its number, `steps`,
        `columns`, `classes` and `values`, in the order columns, steps, classes. `best` and `last` are positions in
        `steps`; `best` is None if the best validation has no table.
    """
    groups: dict[tuple[str, str, str], dict[int, list[PerClassResults]]] = {}
    for number, run in enumerate(runs):
        for table in run.per_class:
            groups.setdefault((table.dataset, table.metric, table.mode), {}).setdefault(number, []).append(table)
    for by_run in groups.values():
        for number, tables in by_run.items():  # an evaluation may change its classes when a run is resumed
            last = tables[-1]
            same = [each for each in tables if each.columns == last.columns and _names(each) == _names(last)]
            by_run[number] = same
    widths = [
        len(tables[-1].rows) * (len(tables[-1].columns) - 1) for each in groups.values() for tables in each.values()
    ]
    most = max(_MOST_VALUES // max(sum(widths), 1), _LEAST_STEPS)
    return [
        {
            "set": dataset,
            "metric": metric,
            "mode": mode,
            "runs": [_encoded(number, tables, best_steps[number], most) for number, tables in by_run.items()],
        }
        for (dataset, metric, mode), by_run in groups.items()
    ]


def _names(table: PerClassResults) -> list[str]:
    return [row[0] for row in table.rows]


def _encoded(number: int, tables: list[PerClassResults], best: float | None, most: int) -> dict[str, Any]:
    last = len(tables) - 1
    places = {round(part * last / (most - 1)) for part in range(most)}
    best_place = next((place for place, table in enumerate(tables) if table.step == best), None)
    chosen = sorted(places | ({best_place} if best_place is not None else set()))
    shown = [tables[place] for place in chosen]
    return {
        "run": number,
        "steps": [table.step for table in shown],
        "best": chosen.index(best_place) if best_place is not None else None,
        "last": len(shown) - 1,
        "columns": shown[-1].columns[1:],
        "classes": _names(shown[-1]),
        "values": [
            [[None if row[column] is None else short(row[column], 4) for row in table.rows] for table in shown]
            for column in range(1, len(shown[-1].columns))
        ],
    }
