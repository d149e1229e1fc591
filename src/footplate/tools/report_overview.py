"""Collects the data for the overviews of a report: of each run, of a sweep, and of the differences between configs."""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from footplate.checkpoint import BEST, number_in
from footplate.checkpoint.latest import best_prefix, checkpoint_templates
from footplate.hooks.metric_rules import Rule
from footplate.messages import format_bytes, one_line
from footplate.records.message_hub import split_dataset
from footplate.tools.analysis import (
    count_iterations,
    find_best,
    name_in_log,
    ranked_metrics,
    save_best_settings,
    summarize,
)
from footplate.tools.diff import compare
from footplate.tools.explain_keys import brief
from footplate.tools.runs import Point, Run, Series

if TYPE_CHECKING:
    from footplate.tools.sweep import TrialInfo

_SAVED = re.compile(r".*?(?P<unit>iter|epoch)_(?P<number>\d{1,12})\.(?:pth|sharded)")
_MIN_VALIDATIONS = 3  # to judge overfitting and noise
_NOTABLE = 0.05  # smaller changes, as a share of the metric's range, are noise
_WINDOW = 10  # training log lines over which a loss is averaged
_MIN_TRIALS = 5  # complete trials, to judge parameters
_MAX_WIDTH = 48
_NORMAL = 1.96  # 95% of a normal distribution lie within this number of standard deviations


def choose_headline(runs: Sequence[Run], metric: str = "") -> tuple[Series, Rule] | None:
    """Returns the metric by which runs are compared, and its rule.

    It is the metric with the given name or, without a name, the first metric of `save_best` that all runs have. If
    there is none, it is the first metric that all runs have and that is not a loss. Without validation, it is the
    training loss.
    """
    ranked = [ranked_metrics(run) for run in runs]
    shared = set.intersection(*({series.name for series, _ in each} for each in ranked))
    candidates = [each for each in ranked[0] if each[0].name in shared] or list(chain.from_iterable(ranked))
    if candidates:
        selecting = [metric] if metric else save_best_settings(runs[0])[0]
        return min(candidates, key=lambda each: (each[0].name not in selecting, "loss" in each[0].name))
    trained = [series for run in runs for series in run.series if "loss" in series.name]
    return (trained[0], "less") if trained else None


def best_first(runs: Sequence[Run], headline: tuple[Series, Rule] | None) -> list[int]:
    """Returns the indices of runs, sorted by their best headline metric. Runs without the metric come last."""

    def rank(place: int) -> tuple[bool, float]:
        found = headline and runs[place].find(headline[0].name, headline[0].mode)
        if headline is None or found is None:
            return True, 0.0
        value = find_best(found, headline[1])["value"]
        return False, value if headline[1] == "less" else -value

    return sorted(range(len(runs)), key=rank)


def describe_run(run: Run, headline: tuple[Series, Rule] | None) -> dict[str, Any]:
    """Returns the facts about a run that the first screen shows.

    Returns:
        A dict with the summary of the run (see `summarize`) and these keys:

        - `metric`: the first, best and last value of the headline metric with their iterations, and `step`, the
          difference between the last two validations, or 0 if there are fewer than three validations. None if the run
          does not have the metric.
        - `valLoss`: the validation loss at the best iteration of the headline metric, on the same validation set, or
          None.
        - `sets`: the headline metric on each validation set at the best iteration. Empty if there is only one set.
        - `state`: the number of completed iterations, the planned number or None, and whether the run is finished.
        - `fit`: whether the run overfits; see `judge_fit`.
        - `use`: the checkpoint to use and a command that predicts with it, or None.
        - `device`: the accelerator, or "CPU", or "" if unknown.
    """
    summary = summarize(run)
    metric, sets, loss = None, [], None
    if headline is not None:
        found, rule = run.find(headline[0].name, headline[0].mode), headline[1]
        if found is not None:
            best = find_best(found, rule)
            (first_at, first), (last_at, last) = found.points[0], found.points[-1]
            metric = {
                **best,
                "first": {"value": first, "iteration": first_at},
                "last": {"value": last, "iteration": last_at},
                "count": len(found.points),
                "step": abs(last - found.points[-2][1]) if len(found.points) >= _MIN_VALIDATIONS else 0,
            }
            dataset, name = split_dataset(found.name)
            sets = [
                {"name": other, "value": dict(series.points).get(best["iteration"])}
                for series in run.series
                for other, metric_name in [split_dataset(series.name)]
                if series.mode == found.mode and metric_name == name and other
            ]
            sets = sets if dataset and len(sets) > 1 else []
            losses = run.find(f"{dataset}/loss" if dataset else "loss", "val")
            loss = dict(losses.points).get(best["iteration"]) if losses is not None and name != "loss" else None
    device = run.environment.get("accelerator")
    return {
        **summary,
        "metric": metric,
        "sets": sets,
        "valLoss": loss,
        "state": run_state(run),
        "fit": judge_fit(run, headline),
        "use": _checkpoint_to_use(run, headline[0].name if headline else ""),
        "device": {"none": "CPU"}.get(device, device) if isinstance(device, str) else "",
    }


def run_state(run: Run) -> dict[str, Any]:
    """Returns the numbers of completed and planned iterations. The former is read from scalars and checkpoint names."""
    length = run.epoch_length or 0
    saved = [found for file in run.checkpoints if (found := _SAVED.fullmatch(file.name))]
    positions = [int(each["number"]) * (1 if each["unit"] == "iter" else length) for each in saved]
    done = max([count_iterations(run), *positions])
    cfg = run.config._cfg_dict if run.config is not None else {}  # of either generation
    sections = [each for key in ("train_cfg", "runner") if isinstance(each := cfg.get(key), Mapping)]
    totals = [
        (section.get(key), unit)
        for section in [*sections, {"max_epochs": cfg.get("total_epochs")}]
        for key, unit in (("max_iters", 1), ("max_epochs", length))
    ]
    lengths = [total * unit for total, unit in totals if isinstance(total, int) and not isinstance(total, bool)]
    planned = next((each for each in lengths if each > 0), None)
    return {"done": done, "planned": planned, "finished": planned is not None and done >= planned}


def _checkpoint_to_use(run: Run, headline: str) -> dict[str, Any] | None:
    """Returns the best checkpoint, or the last one if there is no best, with a command that predicts with it.

    A run from Python has no config from which a command could build its model, so the command is one of Python.
    """
    prefix, templates = best_prefix(headline), checkpoint_templates({})
    if run.config is not None:
        with suppress(Exception):  # the config of another engine may contain anything here
            templates = checkpoint_templates(run.config._cfg_dict)
    best = [
        file
        for file in run.checkpoints
        if file.name.startswith(prefix)
        and any(number_in(template, file.name.removeprefix(prefix)) is not None for template in templates)
    ]
    regular = [file for file in run.checkpoints if not file.name.startswith(BEST)]
    if not best and not regular:
        return None
    file: Path = (best or regular)[-1]
    command = f"footplate predict {shlex.quote(str(file))} IMAGES"
    if run.config is not None and isinstance(run.config._cfg_dict.get("model"), str):
        command = f"model.load_state_dict(footplate.checkpoint.load_checkpoint({str(file)!r})['state_dict'])"
    size = format_bytes(run.checkpoints[file])
    return {"best": bool(best), "name": file.name, "command": one_line(command), "size": size}


def judge_fit(run: Run, headline: tuple[Series, Rule] | None) -> dict[str, str]:
    """Judges whether a run overfits: whether validation gets worse after its best value while the training loss falls.

    Uses the validation loss if there is one, otherwise the headline metric, which may keep improving after the loss has
    started to get worse. If the headline metric, a validation loss or the training loss is non-finite at the end, the
    run failed, regardless of its best value.

    Returns:
        A dict with the `answer` (a few words), a `note` that qualifies the answer or "", a `text` with the numbers, and
        the `kind` ("good", "warning", "bad" or "unknown").
    """
    losses = [series for series in run.series if series.mode == "val" and split_dataset(series.name)[1] == "loss"]
    judged: tuple[Series, Rule] | None = (losses[0], "less") if losses else None
    main = run.find(headline[0].name, headline[0].mode) if headline is not None else None
    if judged is None and headline is not None and main is not None and main.mode != "train":
        judged = (main, headline[1])
    candidates = [main, *losses, run.find("loss", "train")]
    failed = next((each for each in candidates if each is not None and each.ends_nonfinite), None)
    if failed is not None:
        shown = name_in_log(run, failed) if failed.mode != "train" else f"training {failed.name}"
        text = f"The {shown} is not finite after iteration {failed.points[-1][0]:.0f}."
        return _fit("bad", "not finite", text)
    if judged is None or len(judged[0].points) < _MIN_VALIDATIONS:
        return _fit("unknown", "unknown", "At least three validations are needed.")
    series, rule = judged
    name = name_in_log(run, series) if series.mode == "val" else series.name
    label = "validation loss" if losses else name
    best = find_best(series, rule)
    last = series.points[-1][1]
    values = [value for _, value in series.points]
    extent = max(values) - min(values)
    worse = abs(last - best["value"])
    at = f"{best['iteration']:.0f}"
    if not extent or not math.isfinite(extent) or worse <= _NOTABLE * extent:
        text = f"At the end, the {label} is {'at' if not worse else 'close to'} its best."
        if losses:
            return _fit("good", "no sign", text)
        return _fit("unknown", f"no sign in {name}", text, note="loss not validated")
    change = f"the {label} went from {best['value']:.4g} at {at} to {last:.4g}"
    if abs(values[-2] - best["value"]) <= _NOTABLE * extent:
        return _fit("unknown", "unclear", f"Only in the last validation, {change}.")
    trained = run.find("loss", "train")
    if trained is None:
        return _fit("unknown", "unclear", f"{change[0].upper()}{change[1:]}.")
    before, after = _mean_until(trained.points, best["iteration"]), _mean_until(trained.points, math.inf)
    if after < before:
        text = f"{change[0].upper()}{change[1:]}, while the training loss fell from {before:.4g} to {after:.4g}."
        return _fit("warning", f"yes, since {at}", text)
    text = f"{change[0].upper()}{change[1:]}, but the training loss did not fall either."
    return _fit("unknown", "unclear", text)


def _fit(kind: str, answer: str, text: str, note: str = "") -> dict[str, str]:
    return {"kind": kind, "answer": answer, "text": text, "note": note}


def _mean_until(points: Sequence[Point], at: float) -> float:
    """Returns the mean of the latest values up to an iteration."""
    values = [value for x, value in points if x <= at] or [points[0][1]]
    return fmean(values[-_WINDOW:])


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
    if len(trials) < _MIN_TRIALS:
        return f"At least {_MIN_TRIALS} complete trials are needed to determine which parameter matters."
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
                    texts[column] = f"{value:.4g}" if isinstance(value, float) else brief(value, _MAX_WIDTH)
            rows.setdefault(path, [texts[0] if each.config is not None else "–" for each in runs])[place] = texts[1]
    return [{"key": path, "values": texts} for path, texts in rows.items() if path != "work_dir"]


def _keys(trials: "Sequence[TrialInfo]") -> list[str]:
    return list(dict.fromkeys(key for trial in trials for key in trial.values))


def _ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Returns the ranks ``(N,)`` of values. Equal values receive the mean of their ranks."""
    _, places, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    means: npt.NDArray[np.float64] = np.cumsum(counts) - counts / 2
    return means[places]
