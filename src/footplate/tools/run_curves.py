"""Plots the curves of a run when it ends."""

import os
from collections.abc import Sequence

from footplate.distributed import is_main_process
from footplate.engine import Hook, Runner
from footplate.errors import DataError
from footplate.metric_names import is_of_class, metric_of_label, only_term
from footplate.records import NOT_SHOWN
from footplate.storage import commit_image
from footplate.tools.runs import Point, Series, read_series
from footplate.visualization import skipping_failed_image
from footplate.visualization.curve_plots import Panel, PlottedCurve, panel_title, plot

_FILE = "curves.png"
_UNPLOTTED = frozenset({"time", "data_time", "memory", "eta", "base_lr"})


class CurveHook(Hook):
    """Plots losses, metrics and learning rates to `<timestamp>/curves.png` after the last iteration.

    A resumed run is plotted from its first iteration. Does nothing without a local backend, which writes the scalars.
    """

    priority = "LOWEST"

    def after_train(self, runner: Runner) -> None:
        """Plots the scalars of the run."""
        if not is_main_process() or not os.path.exists(os.path.join(runner.log_dir, "vis_data", "scalars.json")):
            return
        path = os.path.join(runner.log_dir, _FILE)
        with skipping_failed_image(_FILE):
            draw_curves(read_series(runner.folder.work_dir), path)
            runner.logger.info("curves: %s", path, extra=NOT_SHOWN)


def draw_curves(run: Sequence[Series], path: str) -> None:
    """Plots the scalars of a run to an image file. Per-class results and times are omitted.

    Raises:
        DataError: There is nothing to plot.
    """
    panels: dict[str, dict[str, list[Point]]] = {}
    metrics = {metric_of_label(series.name) for series in run if series.mode != "train"}
    for series in sorted(run, key=lambda series: series.name != "loss"):
        trains = series.mode == "train"
        label = metric_of_label(series.name)
        if series.name.rpartition("/")[2] in _UNPLOTTED or (not trains and is_of_class(label, metrics)):
            continue
        panels.setdefault(panel_title(label, series.points, trains=trains), {})[label] = series.points
    if not panels:
        raise DataError("there are no scalars to plot")
    shown = []
    for title in sorted(panels, key=lambda title: (title in ("gradient norm", "learning rate"), title)):
        curves, repeated = panels[title], only_term(panels[title])
        shown.append(Panel(title, [PlottedCurve(label, curves[label]) for label in curves if label != repeated]))
    commit_image(path, plot(shown, "iteration"))
