"""Derives what `analyze` and `report` show about a run: its state, times, values and the checkpoint to use."""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from statistics import fmean
from typing import Any

from footplate.checkpoint_names import BEST, best_prefix
from footplate.messages import format_bytes, list_names, one_line, pluralize
from footplate.metric_names import (
    Rule,
    expand_rules,
    find_metric,
    find_rule,
    order_metrics,
    split_dataset,
    validation_label,
)
from footplate.storage.local_files import RUN_LOCK, is_locked
from footplate.tools.run_files import modification_time
from footplate.tools.runs import Run, Series

Data = dict[str, Any]  # in the form that the page's script reads
Described = tuple[Run, Data]  # a run and the facts about it
Metric = tuple[Series, Rule | None]  # a metric and its rule, or None if it is unknown
_SAVED = re.compile(r"(?P<unit>iter|epoch)_(?P<at>\d{1,12})\.(?:pth|sharded)$")  # the name of a checkpoint
_MAX_RESUMED = 3  # iterations to list
_MEASURED = ("time", "data_time", "memory")


def describe_run(run: Run, headline: Metric | None) -> Data:
    """Returns the facts about a run.

    Returns:
        A dict with these keys:

        - `state`: see `run_state`.
        - `epoch_length`: the iterations per epoch, or None if the run does not count epochs.
        - `metric`: the headline metric, or None if the run does not have it.
        - `problem`: its `name` and a `text`, or None; see `_find_problem`.
        - `metrics`: the validation and test metrics, keyed by name; see `describe_metric` and `ranked_metrics`. A
          validation metric that is also logged in training is named `val/<name>`.
        - `tests`: the last test values of each tested checkpoint, and their `iteration`, keyed by checkpoint. The key
          of tests by a training process is "".
        - `logged`: the iteration of the last training log line, or None. `time` and `last` cover the run up to it.
        - `last`: the last training values, keyed by name. NaN if the last value is non-finite.
        - `time`: the training time in seconds, without validation, or None if times are not recorded.
        - `memory`: the peak memory in MiB, or None if not recorded.
        - `cost`: the time per iteration, the memory, the device and the share of time spent waiting for data, as text.
        - `checkpoints`: the sizes in bytes by file name, or by folder name for sharded checkpoints.
        - `use`: the checkpoint to use and a command that predicts with it, or None.
        - `config_name`: the name of the config in the run folder, without its suffix, or "".
        - `launches`: the folder names of the training launches, sorted by time.
    """
    ranked, trained = ranked_metrics(run), run.scalars("train")
    logged = max((int(series.points[-1][0]) for series in trained.values()), default=None)
    time, data, memory = map(trained.get, _MEASURED)
    device = run.environment.get("accelerator")
    peak = max(memory.values) if memory else None
    cost = [f"{peak:.0f} MiB" if peak else "", {"none": "CPU"}.get(device, device) if isinstance(device, str) else ""]
    total = None
    if time and logged:
        mean, waiting = fmean(time.values), fmean(data.values) if data else 0.0
        total = mean * logged
        share = f"{waiting / mean:.0%} waiting for data" if waiting > mean / 20 else ""
        cost = [f"{mean:.3g} s per iteration", *cost, share, "without validation"]
    metrics = {name_in_log(run, series): describe_metric(series, rule) for series, rule in ranked}
    measured = run.scalars(headline[0].mode).get(headline[0].name) if headline else None
    metric = describe_metric(measured, headline[1]) if headline and measured else None
    launched = {start.iteration: start.checkpoint for start in run.launches if start.kind == "test"}
    tests: dict[str, dict[str, float]] = {}
    for series, _ in ranked:
        for at, value in series.points if series.mode == "test" else ():
            tests.setdefault(launched.get(int(at), ""), {}).update({"iteration": at, series.name: value})
    configs = sorted(run.folder.glob("*.py"), key=modification_time)
    return {
        "state": run_state(run),
        "epoch_length": run.epoch_length,
        "metric": metric,
        "metrics": metrics,
        "problem": _find_problem(run, measured, metric),
        "tests": tests,
        "logged": logged,
        "last": {
            name: math.nan if series is None or series.ends_nonfinite else series.values[-1]
            for name, series in (trained | dict.fromkeys(run.never_finite)).items()
            if name not in _MEASURED
        },
        "time": total,
        "memory": peak,
        "cost": ", ".join(filter(None, cost)),
        "checkpoints": {file.name: size for file, size in run.checkpoints.items()},
        "use": _checkpoint_to_use(run, "" if metric is None or metric["flat"] or not headline else headline[0].name),
        "config_name": configs[-1].stem if configs else "",
        "launches": [start.folder.name for start in run.launches if start.trains],
    }


def count_iterations(run: Run) -> int:
    """Returns the number of completed iterations: the highest one among the recorded values, stop and checkpoint names.

    Ignores test values unless the run has only test values, because a tested checkpoint may come from a different run.
    """
    trained = [series for series in run.series if series.mode != "test"] or run.series
    units = {"iter": 1, "epoch": run.epoch_length or 0}
    saved = [int(match["at"]) * units[match["unit"]] for file in run.checkpoints if (match := _SAVED.search(file.name))]
    saved += [start.stopped_at for start in run.launches[-1:]]
    return max([*saved, *(int(series.points[-1][0]) for series in trained)])


def run_state(run: Run) -> Data:
    """Returns a dict with the progress of a run.

    The keys are `done`, the number of completed iterations (see `count_iterations`); `planned`, the number of planned
    iterations, or None if unknown; `complete`, whether the run has ended and was not stopped early, except by a hook;
    `running`, whether a process has locked the folder; `stopped_by`, what ended the last launch early: "a hook", "the
    time limit", a signal such as "SIGTERM", or "an error: " and its message, or "" if the run is finished or running,
    or if its process was killed; `resumed`, the iterations at which it was resumed; and the state in words: `name` and
    `text`.
    """
    done, cfg = count_iterations(run), run.settings  # of either generation
    sections = cfg.get("train_cfg"), cfg.get("runner"), {"max_epochs": cfg.get("total_epochs")}
    lengths = [
        total * unit
        for section in sections
        if isinstance(section, Mapping)
        for key, unit in (("max_iters", 1), ("max_epochs", run.epoch_length or 0))
        if isinstance(total := section.get(key), int)
    ]
    planned = next((length for length in lengths if length > 0), None)
    finished = planned is not None and done >= planned and not run.stopped_by.startswith("an error")
    running = is_locked(str(run.folder / RUN_LOCK))
    stopped_by = "" if finished or running else run.stopped_by
    text = f"{done:,} iterations" if planned in (None, done) else f"{done:,} of {planned:,} iterations"
    resumed = [start.iteration for start in run.launches if start.kind == "resume"]
    if resumed:
        text += f", resumed at {list_names(resumed, _MAX_RESUMED)}"
    if run.evaluated:
        name, text = "evaluated", f"after {text}" + (run.evaluated.config and f", config {run.evaluated.config}")
    elif finished:
        name = "finished"
    elif running:
        name = "running"
    elif stopped_by:
        name, text = "stopped early", f"by {stopped_by}, {text}"
    elif planned is None:
        name, text = text, "planned length unknown"
    else:
        name = "not finished"
    return {
        "done": done,
        "planned": planned,
        "complete": not running and (finished or stopped_by == "a hook" or not (planned or stopped_by)),
        "running": running,
        "stopped_by": stopped_by,
        "resumed": resumed,
        "name": name,
        "text": text,
    }


def ranked_metrics(run: Run) -> list[Metric]:
    """Returns the validation metrics and then the test metrics of a run with their rules, `save_best` metrics first.

    A rule is None if the run does not set it and the name does not imply it. Omits per-class results. Without any
    metric, returns the first training loss.
    """
    selecting, rules = save_best_settings(run)
    ranked: list[Metric] = []
    for mode in ("val", "test"):
        measured = run.scalars(mode)
        for name in order_metrics(measured, selecting):
            ranked.append((measured[name], rules.get(name) or rules.get(split_dataset(name)[1]) or find_rule(name)))
    losses: list[Metric] = [(series, "less") for series in run.series if "loss" in series.name]
    return ranked or losses[:1]


def save_best_settings(run: Run) -> tuple[list[str], dict[str, Rule]]:
    """Returns the `save_best` metrics in a run's config, and the rules that the config sets for metrics."""
    with suppress(Exception):  # the config of another engine may contain anything here
        cfg, names = run.settings, [series.name for series in run.series]
        hooks = (
            (cfg.get("default_hooks") or {}).get("checkpoint"),
            cfg.get("checkpoint_config"),
            cfg.get("evaluation"),
        )
        values = [next((hook[key] for hook in hooks if hook and hook.get(key)), ()) for key in ("save_best", "rule")]
        metrics, rules = ([value] if isinstance(value, str) else list(value) for value in values)
        best = [find_metric(name, names) for name in metrics]
        custom = [hook for hook in cfg.get("custom_hooks") or () if isinstance(hook, Mapping)]
        known = {hook["monitor"]: hook["rule"] for hook in custom if hook.get("monitor") and hook.get("rule")}
        return best, known | dict(zip(best, expand_rules(metrics, rules), strict=False))  # there may be no rules
    return [], {}


def describe_metric(series: Series, rule: Rule | None) -> Data:
    """Returns a dict with the best `value` of a metric, its `iteration`, and the `mode` of the metric.

    `small` is whether lower is better. If that is unknown (None), `value` is the last value. Also contains the
    `lowest`, `highest`, `first` and `last` value, the `count` of values, and whether the metric is `flat`: several
    values are all equal.
    """
    low, high = (choose(series.points, key=lambda point: point[1]) for choose in (min, max))
    at, value = {"less": low, "greater": high, None: series.points[-1]}[rule]
    values = series.values
    return {
        "mode": series.mode,
        "value": value,
        "iteration": at,
        "small": rule and rule == "less",
        "lowest": low[1],
        "highest": high[1],
        "first": values[0],
        "last": values[-1],
        "count": len(values),
        "flat": low[1] == high[1] and len(values) > 1,
    }


def name_in_log(run: Run, series: Series) -> str:
    """Returns the name of a series in the log.

    The name of a validation series is `val/<name>` if training has a series of the same name.
    """
    recorded = {f"train/{name}" for name in run.scalars("train")}
    return validation_label(series.name, recorded) if series.mode == "val" else series.name


def choose_headline(runs: Sequence[Run]) -> Metric | None:
    """Returns the metric for comparing runs, and its rule: "greater" or "less", or None if it is unknown.

    Chooses from the metrics that all runs have, or from all metrics if they have none in common. Prefers the
    `save_best` metrics of the first run, then metrics with a known rule, and then metrics that are not losses. Uses the
    first training loss if no run has validation or test metrics. Returns None if there is no training loss either.
    """
    ranked = [ranked_metrics(run) for run in runs]
    shared = set.intersection(*({series.name for series, _ in metrics} for metrics in ranked))
    candidates = [item for item in ranked[0] if item[0].name in shared] or list(chain.from_iterable(ranked))
    selecting = save_best_settings(runs[0])[0]
    return min(
        candidates,
        key=lambda item: (item[0].name not in selecting, item[1] is None, "loss" in item[0].name),
        default=None,
    )


def _find_problem(run: Run, measured: Series | None, metric: Data | None) -> Data | None:
    """Returns the `name` and a `text` if the headline metric or a loss ends non-finite, or all validations are 0.

    A metric of 0 is a problem only if higher is known to be better.
    """
    losses = [series for name, series in run.scalars("val").items() if split_dataset(name)[1] == "loss"]
    for series in filter(None, (measured, *losses, run.scalars("train").get("loss"))):
        if series.ends_nonfinite:
            name = f"training {series.name}" if series.mode == "train" else name_in_log(run, series)
            text = f"The {name} is non-finite after iteration {series.points[-1][0]:.0f}."
            return {"name": "non-finite", "text": text}
    if "loss" in run.never_finite:
        return {"name": "non-finite", "text": "The training loss was never finite."}
    if measured and metric and measured.mode == "val" and metric["small"] is False and not any(measured.values):
        validations = pluralize(metric["count"], "validation")
        return {
            "name": "always 0",
            "text": f"The {measured.name} is 0 in {validations}. Train longer, or check the labels.",
        }
    return None


def _checkpoint_to_use(run: Run, headline: str) -> Data | None:
    """Returns the best checkpoint (or the last one if none is marked as best), with a command that uses it.

    The command is `footplate predict`. For a run that was started from Python, which has no data pipeline, it is Python
    code that loads the weights. Returns None if the run has no checkpoints.

    Args:
        run: The run.
        headline: The name of the headline metric. "" if no checkpoint is the best one.
    """
    # A log line does not show whether "val/acc" belongs to a single validation set with the name "val".
    prefixes = best_prefix(headline), best_prefix(f"val/{headline}")
    best = [
        file
        for file in run.checkpoints
        if any(file.name.startswith(start) and _SAVED.fullmatch(file.name.removeprefix(start)) for start in prefixes)
    ]
    others = [file for file in run.checkpoints if not file.name.startswith(BEST)]
    regular = [file for file in others if _SAVED.fullmatch(file.name)]  # not averaged weights
    candidates = best or regular or others or [*run.checkpoints]
    if not candidates:
        return None
    file = candidates[-1]
    command = [f"footplate predict {shlex.quote(str(file))} IMAGES"]
    is_from_python = run.environment.get("config variables", ()) is None
    lines = code_to_load(str(file)) if is_from_python else command
    size = format_bytes(run.checkpoints[file])
    return {"best": bool(best), "name": file.name, "command": "\n".join(map(one_line, lines)), "size": size}


def code_to_load(path: str) -> list[str]:
    """Returns example code that loads a checkpoint's weights into a torch module and runs the module."""
    return [
        "from footplate.checkpoint import load_weights",
        f"load_weights(model, {path!r}, strict=True)",
        "predictions = model.eval()(inputs)",
    ]
