"""Prepares the scalars and per-class results of runs for the charts and tables of a report."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

from footplate.metric_names import is_of_class, only_term, split_dataset
from footplate.tools.runs import PerClassResults, Point, Run, Series

_MAX_POINTS = 1000  # in a curve
_MAX_CLOCK = 200  # points
_MAX_STEPS = 50  # in a table of per-class results
_DETAILS = frozenset({"lr", "base_lr", "momentum", "grad_norm", "time", "data_time", "memory", "weight_decay"})
ScalarKey = tuple[str, str]  # the mode and the name of a scalar


class ReportCurve(NamedTuple):
    """One curve in a chart: a scalar of one run."""

    run: int
    series: Series
    label: str  # distinguishes the curve from other curves of the same run in its chart; may be ""
    band: Mapping[float, Point] = {}  # the lowest and highest value over the seeds at each iteration; {} for one seed
    role: str = ""  # "mean" for the means between validation runs, "raw" for the curve that they summarize


def arrange_charts(
    runs: Sequence[Run], headline: Mapping[str, Any] | None, variants: Sequence[Sequence[int]] = ()
) -> dict[str, Any]:
    """Groups the scalars of runs into charts. The curves of several seeds become their mean with a band.

    The only term of a loss does not get a separate chart. Per-class results are omitted; see `class_history`.

    Args:
        runs: The runs.
        headline: The `mode` and the `name` of the headline metric, or None.
        variants: The indices of the runs of each variant that are drawn as one curve.

    Returns:
        A dict with these keys:

        - `loss`: the chart of the training loss, or None. If there are validation losses, it also shows these, and the
          training loss as means between validation runs. For a single run, the training loss itself is added.
        - `headline`: the chart of the headline metric, which also appears as `loss` or in `metrics`. None if there is
          no headline metric, or if `loss` shows it as a validation loss.
        - `metrics`: the charts of all other losses and metrics.
        - `details`: the charts of schedules, gradient norms, times and memory.
    """
    curves: dict[ScalarKey, list[ReportCurve]] = {}
    loss_key = "train", "loss"
    for number, run in enumerate(runs):
        for mode, scalars in _by_mode(run).items():
            for name, series in scalars.items():
                if mode == "train" or not is_of_class(name, scalars):
                    label = "training" if (mode, name) == loss_key else ""
                    curves.setdefault((mode, name), []).append(ReportCurve(number, series, label))
    terms = {name: [each.series.points for each in drawn] for (mode, name), drawn in curves.items() if mode == "train"}
    curves.pop(("train", only_term(terms) or ""), None)
    for mode, name in list(curves) if loss_key in curves else ():  # the chart of the loss shows the validation losses
        dataset, metric = split_dataset(name)
        if mode == "val" and metric == "loss":
            label = f"validation: {dataset}" if dataset else "validation"
            curves[loss_key] += [curve._replace(label=label) for curve in curves.pop((mode, name))]
    if loss_key in curves:
        curves[loss_key] = _with_means(curves[loss_key])
    charts = {key: _chart(key, _with_bands(drawn, variants)) for key, drawn in curves.items()}
    return {
        "headline": headline and charts.get((headline["mode"], headline["name"])),
        "loss": charts.pop(loss_key, None),
        "metrics": [chart for key, chart in charts.items() if not _is_detail(key)],
        "details": [chart for key, chart in charts.items() if _is_detail(key)],
    }


def _with_means(curves: Sequence[ReportCurve]) -> list[ReportCurve]:
    """Replaces training losses by their means between validation runs, so that both losses cover the same window."""
    shown: list[ReportCurve] = []
    for curve in curves:
        others = [other.series for other in curves if other.run == curve.run and other.series.mode == "val"]
        ends = sorted({at for series in others for at, _ in series.points})
        means = means_between(curve.series.points, ends) if curve.series.mode == "train" else []
        if means and len({curve.run for curve in curves}) == 1:
            shown.append(curve._replace(role="raw"))
        shown.append(curve._replace(series=curve.series._replace(points=means), role="mean") if means else curve)
    return shown


def _with_bands(curves: Sequence[ReportCurve], variants: Sequence[Sequence[int]]) -> list[ReportCurve]:
    """Replaces the curves of each variant that have a label in common by their mean, at the iterations of all of them.

    Keeps curves without common iterations.
    """
    merged = list(curves)
    for variant, kind in product(variants, dict.fromkeys((curve.label, curve.role) for curve in curves)):
        seeds = [curve for curve in curves if curve.run in variant and (curve.label, curve.role) == kind]
        values = [dict(curve.series.points) for curve in seeds]
        shared = sorted(set.intersection(*map(set, values))) if len(values) > 1 else []
        if shared:
            columns = {at: [points[at] for points in values] for at in shared}
            mean = seeds[0].series._replace(points=[(at, fmean(column)) for at, column in columns.items()])
            band = {at: (min(column), max(column)) for at, column in columns.items()}
            merged[merged.index(seeds[0])] = seeds[0]._replace(series=mean, band=band)
            merged = [curve for curve in merged if curve not in seeds]
    return merged


def _by_mode(run: Run) -> dict[str, dict[str, Series]]:
    """Groups the scalars of a run by mode, as dicts keyed by name."""
    return {series.mode: run.scalars(series.mode) for series in run.series}


def _is_detail(key: ScalarKey) -> bool:
    mode, name = key
    parts = name.replace(".", "/").split("/")  # as in "critic.lr"
    return mode == "train" and any(part in _DETAILS or part.startswith("lr_") for part in parts)


def _chart(key: ScalarKey, curves: Sequence[ReportCurve]) -> dict[str, Any]:
    mode, name = key
    of_test = "test/" if mode == "test" else ""
    dataset, metric = split_dataset(name.removeprefix(of_test)) if mode != "train" else ("", name)
    encoded = []
    for run, series, label, band, role in curves:
        points = thinned(series.points, _MAX_POINTS)
        x, y = ([short(value) for value in values] for values in zip(*points, strict=True))
        is_thinned = len(points) < len(series.points)
        curve = {"run": run, "mode": series.mode, "label": label, "x": x, "y": y, "thinned": is_thinned, "role": role}
        if band:
            curve["low"], curve["high"] = ([short(band[at][side]) for at, _ in points] for side in (0, 1))
        encoded.append(curve)
    return {"name": metric, "set": dataset, "mode": mode, "curves": encoded}


def clock_of(run: Run) -> list[Point]:
    """Returns pairs of iteration and training time in seconds, without validation. Empty if times are not recorded."""
    points, seconds = [(0.0, 0.0)], 0.0
    for series in run.series:
        for at, duration in series.points if (series.mode, series.name) == ("train", "time") else ():
            seconds += duration * (at - points[-1][0])
            points.append((at, short(seconds)))
    stride = math.ceil(len(points) / _MAX_CLOCK)
    return [*points[:-1:stride], points[-1]] if seconds else []


def means_between(points: Sequence[Point], ends: Sequence[float]) -> list[Point]:
    """Returns the mean of a curve after the previous end and up to each end. Omits intervals without points."""
    columns: dict[float, list[float]] = {}
    for at, value in points:
        if (place := bisect_left(ends, at)) < len(ends):
            columns.setdefault(ends[place], []).append(value)
    return [(end, fmean(values)) for end, values in columns.items()]


def thinned(points: list[Point], most: int) -> list[Point]:
    """Reduces a curve to roughly `most` points, keeping the minimum and maximum of each interval."""
    if len(points) <= most:
        return points
    stretch = math.ceil(len(points) / (most // 2))
    kept: list[Point] = []
    for begin in range(0, len(points), stretch):
        part = points[begin : begin + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def short(value: float, digits: int = 5) -> float:
    """Rounds a number to `digits` significant digits to reduce the size of the page. Does not round integers."""
    return int(value) if float(value).is_integer() else float(f"{value:.{digits}g}")


def class_history(runs: Sequence[Run], best_steps: Sequence[float | None]) -> list[dict[str, Any]]:
    """Returns the per-class results of all runs, grouped by dataset, metric and mode.

    If there are many steps, omits some of them, but never the first, the best or the last step. `best_steps` contains
    the iteration of each run's best validation result, or None.

    Returns:
        One dict per group, with its `set`, `metric`, `mode` and `runs`. Each item of `runs` contains the number of the
        run, its `steps`, `columns` and `classes`, and the `values`, indexed by column, step and class. `best` and
        `last` are indices into `steps`. `best` is None if there is no table for that iteration.
    """
    groups: dict[tuple[str, str, str], dict[int, list[PerClassResults]]] = {}
    for number, run in enumerate(runs):
        for table in run.per_class:
            tables = groups.setdefault((table.dataset, table.metric, table.mode), {}).setdefault(number, [])
            if tables and (tables[-1].columns, _names(tables[-1])) != (table.columns, _names(table)):
                tables.clear()  # the classes may change when a run is resumed
            tables.append(table)
    return [
        {
            "set": dataset,
            "metric": metric,
            "mode": mode,
            "runs": [_encoded_tables(number, tables, best_steps[number]) for number, tables in by_run.items()],
        }
        for (dataset, metric, mode), by_run in groups.items()
    ]


def _names(table: PerClassResults) -> list[str]:
    return [row[0] for row in table.rows]


def _encoded_tables(number: int, tables: list[PerClassResults], best: float | None) -> dict[str, Any]:
    last = len(tables) - 1
    chosen = {round(part * last / (_MAX_STEPS - 1)) for part in range(_MAX_STEPS)}
    if tables[-1].columns[1:] == _names(tables[-1]):  # a confusion matrix, which is large and has no curve
        chosen = {last}
    shown = [table for place, table in enumerate(tables) if place in chosen or table.step == best]
    steps = [table.step for table in shown]
    return {
        "run": number,
        "steps": steps,
        "best": steps.index(int(best)) if best in steps else None,
        "last": len(shown) - 1,
        "columns": shown[-1].columns[1:],
        "classes": _names(shown[-1]),
        "values": [
            [[None if row[column] is None else short(row[column], 4) for row in table.rows] for table in shown]
            for column in range(1, len(shown[-1].columns))
        ],
    }
