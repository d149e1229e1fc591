"""Arranges the per-class results of runs for a report."""

from collections.abc import Sequence
from typing import Any

from footplate.records.message_hub import is_of_class, split_dataset
from footplate.tools.report_curves import short
from footplate.tools.runs import PerClassResults, Run

_MOST_VALUES = 100_000  # total number over all classes, columns and steps
_LEAST_STEPS, _MOST_STEPS = 3, 1000


def class_history(runs: Sequence[Run], best_steps: Sequence[float | None]) -> list[dict[str, Any]]:
    """Returns the per-class results of all runs, grouped by dataset, metric and mode.

    If there are too many values, omits steps other than the first, the best and the last one.

    Args:
        runs: The runs.
        best_steps: The iteration of the best validation of each run.

    Returns:
        A dict for each table with its `set`, `metric`, `mode` and `runs`. Each of the `runs` contains the number of the
        run, its `steps`, `columns` and `classes`, and the `values` indexed by column, step and class. `best` and `last`
        are indices of `steps`. `best` is None if the best validation has no table.
    """
    groups: dict[tuple[str, str, str], dict[int, list[PerClassResults]]] = {}
    for number, run in enumerate(runs):
        for table in run.per_class or tables_of_scalars(run):
            groups.setdefault((table.dataset, table.metric, table.mode), {}).setdefault(number, []).append(table)
    for by_run in groups.values():
        for number, tables in by_run.items():  # the classes may change when a run is resumed
            last = tables[-1]
            by_run[number] = [each for each in tables if each.columns == last.columns and _names(each) == _names(last)]
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


def tables_of_scalars(run: Run) -> list[PerClassResults]:
    """Builds tables of per-class results that were recorded only as scalars, such as `IoU.shoe`."""
    values: dict[tuple[str, str, str], dict[str, dict[float, float]]] = {}
    for mode in dict.fromkeys(series.mode for series in run.series if series.mode != "train"):
        own = {series.name: series for series in run.series if series.mode == mode}
        for name, series in own.items():
            if is_of_class(name, own):
                dataset, metric = split_dataset(name)
                quantity, dot, label = metric.partition(".")
                if not dot:  # `shoe_precision` is the average precision of a class
                    label, _, quantity = metric.rpartition("_")
                values.setdefault((dataset, quantity, mode), {})[label] = dict(series.points)
    tables = []
    for (dataset, quantity, mode), classes in values.items():
        for step in sorted({step for points in classes.values() for step in points})[-_MOST_STEPS:]:
            rows = [[label, points.get(step)] for label, points in classes.items()]
            tables.append(PerClassResults(dataset, quantity, mode, int(step), ["class", quantity], rows))
    return tables


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
