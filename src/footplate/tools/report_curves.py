"""Arranges the scalars and the per-class results of runs for a report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from footplate.records.message_hub import is_of_class, split_dataset
from footplate.tools.runs import PerClassResults, Point, Run, Series
from footplate.visualization.curves import find_duplicates

_MAX_POINTS = 60_000  # in all curves of the page
_MAX_PER_CURVE, _MIN_PER_CURVE = 2000, 200
_DETAILS = frozenset({"lr", "base_lr", "momentum", "grad_norm", "time", "data_time", "memory", "weight_decay"})
Chart = dict[str, Any]
_MAX_VALUES = 100_000  # total number over all classes, columns and steps
_MIN_STEPS, _MAX_STEPS = 3, 1000


class Curve(NamedTuple):
    """A scalar of one run."""

    run: int
    series: Series
    label: str  # distinguishes the curve from other curves of the same run in its chart; may be ""


class Charts(NamedTuple):
    """The charts of a page, as data for its script."""

    loss: Chart | None  # training and validation loss
    headline: Chart | None
    metrics: list[Chart]  # other losses and metrics, grouped by validation set
    details: list[Chart]  # schedule, gradient norm, time and memory


def arrange_charts(runs: Sequence[Run], headline: Series | None) -> Charts:
    """Arranges the scalars of runs as charts.

    A scalar that always equals an earlier scalar, such as the only term of a loss, is mentioned only in the title of
    the earlier scalar's chart. Per-class results are omitted; see `class_history`. `headline` is the headline metric as
    a series of any run.
    """
    curves: dict[tuple[str, str], list[Curve]] = {}
    for number, run in enumerate(runs):
        for mode in dict.fromkeys(series.mode for series in run.series):
            own = {series.name: series for series in run.series if series.mode == mode}
            for name, series in own.items():
                if mode == "train" or not is_of_class(name, own):
                    curves.setdefault((mode, name), []).append(Curve(number, series, ""))
    equal: dict[tuple[str, str], set[str]] = {}
    for (mode, name), first in _repeated(curves).items():
        equal.setdefault((mode, first), set()).add(name)
        del curves[mode, name]
    most = _MAX_POINTS // max(sum(map(len, curves.values())), 1)
    most = min(max(most, _MIN_PER_CURVE), _MAX_PER_CURVE)

    loss = [each._replace(label="training") for each in curves.get(("train", "loss"), [])]
    if loss:
        for (mode, name), found in curves.items():
            dataset, metric = split_dataset(name)
            if mode == "val" and metric == "loss":
                label = f"validation: {dataset}" if dataset else "validation"
                loss += [each._replace(label=label) for each in found]
    charts = {key: _chart(key, found, equal.get(key, set()), most) for key, found in curves.items()}
    shown = headline and charts.get((headline.mode, headline.name))
    others = [key for key in sorted(charts, key=_order) if key not in (("train", "loss"),) or not loss]
    return Charts(
        _chart(("train", "loss"), loss, equal.get(("train", "loss"), set()), most) if loss else None,
        shown,
        [charts[key] for key in others if not _is_detail(key)],
        [charts[key] for key in others if _is_detail(key)],
    )


def _repeated(curves: Mapping[tuple[str, str], list[Curve]]) -> dict[tuple[str, str], str]:
    """Maps each scalar that duplicates an earlier one to the name of the earlier one.

    Duplicates have the same values in all runs, the same mode and the same validation set. A loss can only duplicate
    another loss, and a learning rate only another learning rate.
    """
    kinds: dict[tuple[str, str, str], dict[str, list[tuple[float, ...]]]] = {}
    for mode, name in sorted(curves, key=lambda key: key[1] != "loss"):  # terms of the loss are duplicates of it
        kind = "loss" if "loss" in name else "lr" if name.endswith("lr") else ""
        points: list[tuple[float, ...]] = [
            (curve.run, *point) for curve in curves[mode, name] for point in curve.series.points
        ]
        if kind or not _is_detail((mode, name)):  # others may be equal by chance
            kinds.setdefault((mode, split_dataset(name)[0], kind), {})[name] = points
    return {
        (mode, name): first for (mode, _, _), group in kinds.items() for name, first in find_duplicates(group).items()
    }


def _order(key: tuple[str, str]) -> tuple[Any, ...]:
    """Returns a sort key: training losses come first, then other training scalars, then the validation sets."""
    mode, name = key
    return (
        (mode != "train", "loss" not in name)
        if mode == "train"
        else (mode != "train", mode == "test", split_dataset(name)[0])
    )


def _is_detail(key: tuple[str, str]) -> bool:
    mode, name = key
    return mode == "train" and bool({name.partition("/")[0], name.rpartition("/")[2]} & _DETAILS)


def _chart(key: tuple[str, str], curves: Sequence[Curve], equal: set[str], most: int) -> Chart:
    mode, name = key
    dataset, metric = split_dataset(name.removeprefix("test/")) if mode != "train" else ("", name)
    encoded = []
    for run, series, label in curves:
        points = thinned(series.points, most)
        encoded.append(
            {
                "run": run,
                "mode": series.mode,
                "label": label,
                "x": [short(x) for x, _ in points],
                "y": [short(y) for _, y in points],
                "thinned": len(points) < len(series.points),
            }
        )
    return {
        "name": metric,
        "set": dataset,
        "mode": mode,
        "equal": sorted(other if mode == "train" else split_dataset(other)[1] for other in equal),
        "curves": encoded,
    }


def thinned(points: list[Point], most: int) -> list[Point]:
    """Reduces points to the minimum and the maximum of each stretch, so that no peak is lost."""
    if len(points) <= most:
        return points
    stretch = math.ceil(len(points) / (most // 2))
    kept: list[Point] = []
    for begin in range(0, len(points), stretch):
        part = points[begin : begin + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def short(value: float, digits: int = 5) -> float:
    """Rounds a number to `digits` significant digits, so that it takes few characters. Does not round integers."""
    if not math.isfinite(value):
        return value
    return float(f"{value:.{digits}g}") if value != int(value) else int(value)


def class_history(runs: Sequence[Run], best_steps: Sequence[float | None]) -> list[dict[str, Any]]:
    """Returns the per-class results of all runs, grouped by dataset, metric and mode.

    If there are too many values, omits steps other than the first, the best and the last one. `best_steps` contains the
    iteration of the best validation of each run.

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
    most = max(_MAX_VALUES // max(sum(widths), 1), _MIN_STEPS)
    return [
        {
            "set": dataset,
            "metric": metric,
            "mode": mode,
            "runs": [_encoded_tables(number, tables, best_steps[number], most) for number, tables in by_run.items()],
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
                dataset, metric = split_dataset(name.removeprefix("test/"))
                quantity, dot, label = metric.partition(".")
                if not dot:  # `shoe_precision` is the average precision of a class
                    label, _, quantity = metric.rpartition("_")
                values.setdefault((dataset, quantity, mode), {})[label] = dict(series.points)
    tables = []
    for (dataset, quantity, mode), classes in values.items():
        for step in sorted({step for points in classes.values() for step in points})[-_MAX_STEPS:]:
            rows = [[label, points.get(step)] for label, points in classes.items()]
            tables.append(PerClassResults(dataset, quantity, mode, int(step), ["class", quantity], rows))
    return tables


def _names(table: PerClassResults) -> list[str]:
    return [row[0] for row in table.rows]


def _encoded_tables(number: int, tables: list[PerClassResults], best: float | None, most: int) -> dict[str, Any]:
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
