"""Computes the parts of a report that describe a sweep and the configs of many runs."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from footplate.messages import one_line
from footplate.tools.diff import compare
from footplate.tools.explain_keys import brief
from footplate.tools.runs import Run

if TYPE_CHECKING:
    from footplate.tools.sweep import TrialInfo

_FEWEST_TRIALS = 5  # complete trials, to judge parameters
_WIDEST_VALUE = 48
_NORMAL = 1.96  # 95% of a normal distribution lie within this number of standard deviations


class SweepSummary(NamedTuple):
    """The data of a sweep, for a report."""

    metric: str
    trials: "Sequence[TrialInfo]"  # the best first
    command: str  # the command that trains with the settings of the best trial


def sweep_data(sweep: SweepSummary) -> dict[str, Any]:
    """Returns the data about a sweep that the script of the page reads."""
    return {
        "metric": sweep.metric,
        "command": one_line(sweep.command),
        "keys": _keys(sweep.trials),
        "importance": describe_importance(sweep),
        "trials": [
            {"number": each.number, "values": each.values, "state": each.state, "score": each.score, "note": each.note}
            for each in sweep.trials
        ],
    }


def describe_importance(sweep: SweepSummary) -> str:
    """Returns a sentence about the parameter that matters most, by its rank correlation with the metric.

    Only complete trials count. A parameter counts as important only if such a correlation would occur by chance in
    fewer than 5% of sweeps. A non-numeric parameter with more than two values has no rank correlation.
    """
    trials = [trial for trial in sweep.trials if trial.state == "complete" and trial.score is not None]
    count = f"{len(trials)} complete trials"
    if len(trials) < _FEWEST_TRIALS:
        return f"At least {_FEWEST_TRIALS} complete trials are needed to determine which parameter matters."
    scores = [trial.score or 0.0 for trial in trials]
    found: dict[str, float] = {}  # Spearman's rank correlations
    for key in _keys(trials):
        values: list[Any] = [trial.values.get(key) for trial in trials]
        if not all(isinstance(value, (int, float)) for value in values):
            names = sorted({str(value) for value in values})
            if len(names) != 2:  # without an order
                continue
            values = [names.index(str(value)) for value in values]
        one, two = _ranks(values), _ranks(scores)
        if np.ptp(one) and np.ptp(two):
            found[key.rpartition(".")[2]] = float(np.corrcoef(one, two)[0, 1])
    if not found:
        return f"No parameter has a rank correlation with {sweep.metric} over {count}."
    ranked = sorted(found, key=lambda key: -abs(found[key]))
    texts = [f"{key} {found[key]:+.2f}".replace("-", "\u2212") for key in ranked]
    if abs(found[ranked[0]]) < _NORMAL / math.sqrt(len(trials) - 1):
        return f"No parameter clearly matters. Rank correlation with {sweep.metric} over {count}: {', '.join(texts)}."
    return f"{ranked[0]} matters most. Rank correlation with {sweep.metric} over {count}: {', '.join(texts)}."


def config_table(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Returns the keys whose values differ between runs, except `work_dir`, with the value of each run as text."""
    reference = runs[0].config
    rows: dict[str, list[str]] = {}
    for place, run in enumerate(runs):
        if reference is None or run.config is None:
            continue
        for path, first, other in compare(reference, run.config):
            texts = ["–", "–"]
            for column, side in enumerate((first, other)):
                if side is not None:
                    value = side.value
                    texts[column] = f"{value:.4g}" if isinstance(value, float) else brief(value, _WIDEST_VALUE)
            rows.setdefault(path, [texts[0] if each.config is not None else "–" for each in runs])[place] = texts[1]
    return [{"key": path, "values": texts} for path, texts in rows.items() if path != "work_dir"]


def _keys(trials: "Sequence[TrialInfo]") -> list[str]:
    return list(dict.fromkeys(key for trial in trials for key in trial.values))


def _ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Returns the ranks ``(N,)`` of values. Equal values receive the mean of their ranks."""
    _, places, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    means: npt.NDArray[np.float64] = np.cumsum(counts) - counts / 2
    return means[places]
