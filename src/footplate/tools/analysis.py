"""Summarizes and compares runs: their times, best values and checkpoints."""

import math
import os
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from footplate.messages import format_bytes, format_seconds, labeled
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
from footplate.tools.explain_keys import brief
from footplate.tools.run_files import comparable
from footplate.tools.runs import Run, Series

SAVED = re.compile(r"(?P<unit>iter|epoch)_(?P<at>\d{1,12})\.(?:pth|sharded)$")  # the name of a checkpoint
Headline = tuple[Series, Rule | None]  # the metric for comparing runs, and its rule, or None if it is unknown
_MEASURED = ("time", "data_time", "memory")


def summarize(run: Run) -> dict[str, Any]:
    """Returns the times, best and last values, and checkpoints of a run.

    Returns:
        A dict with these keys:

        - `iterations`: the number of iterations.
        - `state`: the planned iterations, and whether the run is finished or running; see `run_state`.
        - `time`: `mean`, `median` and `longest` of the logged seconds per iteration, `data_share` (the fraction of time
          spent waiting for data) and `total` (seconds). None if times are not recorded.
        - `memory`: the peak memory in MiB, or None if not recorded.
        - `logged`: the iteration of the last training log line, or None. `time` and `last` cover the run up to it.
        - `last`: the last training values, keyed by name. NaN if the last value is non-finite.
        - `best`: the best validation values, keyed by name, each as returned by `find_best`. The metric that selects
          the best checkpoint comes first. Per-class results are omitted. A metric that is also logged in training is
          named `val/<name>`.
        - `test`: the last test values, keyed by name, without per-class results.
        - `tests`: the values of each test that was a launch of its own, and its `iteration`, keyed by checkpoint.
        - `hparams`: the hyperparameters of a run from Python, or {}.
        - `checkpoints`: the sizes in bytes by file name, or by folder name for sharded checkpoints.
    """
    ranked = ranked_metrics(run)
    trained = run.scalars("train")
    logged = max((int(series.points[-1][0]) for series in trained.values()), default=None)
    time, data, memory = map(trained.get, _MEASURED)
    times = None
    if time and logged:
        mean = statistics.fmean(time.values)
        waiting = statistics.fmean(data.values) if data else 0.0
        times = {
            "mean": mean,
            "median": statistics.median(time.values),
            "longest": max(time.values),
            "data_share": waiting / mean if mean else 0.0,
            "total": mean * logged,
        }
    hparams = run.settings.get("hparams")
    tested = [series for series, _ in ranked if series.mode == "test"]
    return {
        "iterations": count_iterations(run),
        "state": run_state(run),
        "time": times,
        "memory": max(memory.values) if memory else None,
        "logged": logged,
        "last": {
            name: math.nan if series is None or series.ends_nonfinite else series.values[-1]
            for name, series in (trained | dict.fromkeys(run.never_finite)).items()
            if name not in _MEASURED
        },
        "best": {name_in_log(run, series): find_best(series, rule) for series, rule in ranked if series.mode == "val"},
        "test": {series.name: series.values[-1] for series in tested},
        "tests": {
            start.checkpoint: {
                "iteration": start.iteration,
                **{each.name: value for each in tested for at, value in each.points if at == start.iteration},
            }
            for start in run.launches
            if start.kind == "test"
        },
        "hparams": hparams if isinstance(hparams, Mapping) else {},
        "checkpoints": {file.name: size for file, size in run.checkpoints.items()},
    }


def count_iterations(run: Run) -> int:
    """Returns the number of completed iterations: the highest one among the recorded values, stop and checkpoint names.

    Ignores test values unless the run has only test values, because a tested checkpoint may come from a different run.
    """
    trained = [series for series in run.series if series.mode != "test"] or run.series
    units = {"iter": 1, "epoch": run.epoch_length or 0}
    saved = [int(match["at"]) * units[match["unit"]] for file in run.checkpoints if (match := SAVED.search(file.name))]
    saved += [start.stopped_at for start in run.launches[-1:]]
    return max([*saved, *(int(series.points[-1][0]) for series in trained)])


def run_state(run: Run) -> dict[str, Any]:
    """Returns a dict with the progress of a run.

    The keys are `done`, the number of completed iterations (see `count_iterations`); `planned`, the number of planned
    iterations, or None if unknown; `finished`, whether all planned iterations are done; `running`, whether a process
    has locked the folder; and `stopped_by`, what ended the last launch early: "a hook", "the time limit", a signal such
    as "SIGTERM", or "an error: " and its message. It is "" if the run is finished or running, or if its process was
    killed.
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
    return {"done": done, "planned": planned, "finished": finished, "running": running, "stopped_by": stopped_by}


def ranked_metrics(run: Run) -> list[tuple[Series, Rule | None]]:
    """Returns the validation metrics and then the test metrics of a run with their rules, `save_best` metrics first.

    A rule is None if the run does not set it and the name does not imply it. Omits per-class results.
    """
    selecting, rules = save_best_settings(run)
    ranked: list[tuple[Series, Rule | None]] = []
    for mode in ("val", "test"):
        measured = run.scalars(mode)
        for name in order_metrics(measured, selecting):
            ranked.append((measured[name], rules.get(name) or rules.get(split_dataset(name)[1]) or find_rule(name)))
    return ranked


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


def find_best(series: Series, rule: Rule | None) -> dict[str, Any]:
    """Returns a dict with the best `value` of a series, its `iteration`, and `small`: whether lower is better.

    If that is unknown (None), returns the last value, and also `lowest` and `highest`.
    """
    if rule is None:
        (at, value), values = series.points[-1], series.values
        return {"value": value, "iteration": at, "small": None, "lowest": min(values), "highest": max(values)}
    choose = min if rule == "less" else max
    at, value = choose(series.points, key=lambda point: point[1])
    return {"value": value, "iteration": at, "small": rule == "less"}


def name_in_log(run: Run, series: Series) -> str:
    """Returns the name of a series in the log.

    The name of a validation series is `val/<name>` if training has a series of the same name.
    """
    recorded = {f"train/{name}" for name in run.scalars("train")}
    return validation_label(series.name, recorded) if series.mode == "val" else series.name


def choose_headline(runs: Sequence[Run]) -> Headline | None:
    """Returns the metric for comparing runs, and its rule: "greater" or "less", or None if it is unknown.

    Chooses from the metrics that all runs have, or from all metrics if they have none in common. Prefers the
    `save_best` metrics of the first run, then metrics with a known rule, and then metrics that are not losses. Uses the
    first training loss if no run has validation or test metrics. Returns None if there is no training loss either.
    """
    ranked = [ranked_metrics(run) for run in runs]
    shared = set.intersection(*({series.name for series, _ in metrics} for metrics in ranked))
    candidates = [item for item in ranked[0] if item[0].name in shared] or list(chain.from_iterable(ranked))
    if candidates:
        selecting = save_best_settings(runs[0])[0]
        return min(
            candidates, key=lambda item: (item[0].name not in selecting, item[1] is None, "loss" in item[0].name)
        )
    loss = next((series for run in runs for series in run.series if "loss" in series.name), None)
    return (loss, "less") if loss else None


def headline_series(run: Run, headline: Headline | None) -> Series | None:
    return run.scalars(headline[0].mode).get(headline[0].name) if headline else None


def explain_runs(runs: Sequence[Run]) -> str:
    """Formats the summary of each run, with differing hyperparameters, and a Markdown table of `variants_of`."""
    summaries = [summarize(run) for run in runs]
    of_runs = [summary["hparams"] for summary in summaries]
    differing = [
        name
        for name in dict.fromkeys(chain(*of_runs))
        if any(other.get(name) != of_runs[0].get(name) for other in of_runs)
    ]
    texts = [_text(run, summary, differing) for run, summary in zip(runs, summaries, strict=True)]
    return "\n".join(filter(None, [*texts, _variant_table(variants_of(runs))]))


def _text(run: Run, summary: dict[str, Any], hparams: Sequence[str]) -> str:
    settings = ", ".join(f"{name} {brief(summary['hparams'][name])}" for name in hparams if name in summary["hparams"])
    rows = [("hparams", settings)] if settings else []
    for name, best in summary["best"].items():
        iteration, length = best["iteration"], run.epoch_length
        text = f"{name} {best['value']:.6g} at iteration {iteration:.12g}"
        if length and iteration and not iteration % length:
            text += f" (epoch {iteration // length:.0f})"
        extremes = f" (lowest {best['lowest']:.6g}, highest {best['highest']:.6g})" if best["small"] is None else ""
        rows.append(("final" if extremes else "best", text + extremes + _left_out(run, "val", name, iteration)))
    tested = {name for test in summary["tests"].values() for name in test}
    others = {name: value for name, value in summary["test"].items() if name not in tested}  # by a training process
    for checkpoint, test in {**summary["tests"], "": others}.items():
        metrics = [f"{name} {test[name]:.6g}{_left_out(run, 'test', name, test.get('iteration'))}" for name in test]
        source = checkpoint and f"{checkpoint}: "
        rows += [("test", source + ", ".join(metrics))] if metrics else []
    time, logged = summary["time"], summary["logged"]
    whole = logged == summary["iterations"]
    if time:
        text = (
            f"{time['mean']:.4g} s per iteration (mean of the logged windows; median {time['median']:.4g}, longest "
            f"{time['longest']:.4g}), {time['data_share']:.1%} of it waiting for data, "
            f"{format_seconds(time['total'])} for {'all' if whole else f'the {logged} logged'} iterations, "
            "without validation"
        )
        rows.append(("time", text))
    if summary["memory"]:
        rows.append(("memory", f"{summary['memory']:.0f} MiB at most"))
    if summary["last"]:
        values = ", ".join(f"{name} {value:.4g}" for name, value in summary["last"].items())
        rows.append(("last", values if whole else f"at iteration {logged}: {values}"))
    rows += [("checkpoint", f"{name}, {format_bytes(size)}") for name, size in summary["checkpoints"].items()]
    state = summary["state"]
    of = f" of {state['planned']}" if state["planned"] else ""
    status = ""
    if state["running"]:
        status = ", running"
    elif of:
        status = ", finished" if state["finished"] else ", not finished"
    if state["stopped_by"]:
        status = f", stopped early by {state['stopped_by']}"
    if run.evaluated:
        status = f", config {run.evaluated.config}" if run.evaluated.config else ""
    head = f"{run.folder}: {state['done']}{of} iterations{status}\n"
    return head + "".join(f"  {labeled(*row)}\n" for row in rows)


def _left_out(run: Run, mode: str, name: str, iteration: float | None) -> str:
    """Returns a note if the value of a metric leaves out classes, or ""."""
    dataset, metric = split_dataset(name.removeprefix(f"{mode}/"))
    values = [
        value
        for table in run.per_class
        if (table.dataset, table.mode, table.step) == (dataset, mode, iteration)
        for row in table.rows
        for title, value in zip(table.columns, row, strict=False)
        if metric == f"m{title}"
    ]
    return f" (leaves out {values.count(None)} of {len(values)} classes)" if None in values else ""


class Variant(NamedTuple):
    """A metric over runs that differ only in seeds or folds: the mean and the standard deviation (with n - 1).

    The standard deviation of a single run is None.
    """

    metric: str
    variant: str  # the folder, or the common beginning of the folders
    runs: int
    best: tuple[float, float | None]
    last: tuple[float, float | None]


def group_by_variant(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups runs that differ only in their seeds, folds and work_dirs.

    A fold is the value of any key called `fold`, which cross-validation changes.

    The configs, initial weights, code and numbers of processes of a group are the same. Tests belong together if they
    evaluate checkpoints of the same kind, such as the best one, from different folders. A run without a config is a
    group of its own.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    occurrences = Counter[tuple[Any, ...]]()
    for place, run in enumerate(runs):
        path = Path(run.evaluated.checkpoint if run.evaluated else run.folder / "_")
        weights = path.name[:5] if run.evaluated else str(run.settings.get("load_from"))  # such as "best_" or "iter_"
        settings = re.sub(r"'fold': [^,}]*", "", comparable(run.config)) if run.settings else place
        key = settings, weights, run.environment.get("code"), run.environment.get("processes")
        occurrences[key, path.parent] += 1
        groups.setdefault((*key, occurrences[key, path.parent]), []).append(run)
    return [*groups.values()]


def counted_runs(variant: Sequence[Run]) -> list[Run]:
    """Returns the runs that the mean of a variant covers: the complete ones, or all runs if none is complete.

    A run is complete if it evaluates only, or has ended and was not stopped early, except by a hook. Of several runs
    with the same config and seed, only the latest counts.
    """
    complete = []
    for run in variant:
        state = run_state(run)
        is_whole = run.evaluated or state["finished"] or state["planned"] is None or state["stopped_by"] == "a hook"
        if is_whole and not state["running"]:
            complete.append(run)
    seeds: dict[Any, Run] = {}
    times = [
        (run.launches[-1].folder.name if run.launches else "", str(run.folder), run) for run in complete or variant
    ]
    for *place, run in sorted(times, key=lambda item: item[:2]):
        seed = seed_of(run)  # a fold with the same seed has a different config
        seeds[(comparable(run.config), seed) if seed else tuple(place)] = run
    return [run for run in variant if run in seeds.values()]


def seed_of(run: Run) -> str:
    """Returns the seed of a run as text, or "" if it is unknown."""
    randomness = run.settings.get("randomness")
    seed = run.environment.get("seed", randomness.get("seed") if isinstance(randomness, Mapping) else None)
    return "" if seed is None else str(seed)


def variants_of(runs: Sequence[Run]) -> list[Variant]:
    """Summarizes the groups of `group_by_variant`, ordered by metric; see `counted_runs`. [] for a single run."""
    found: dict[str, list[Variant]] = {}
    for group in map(counted_runs, group_by_variant(runs)):
        folders = [str(Path(run.evaluated.checkpoint).parent if run.evaluated else run.folder) for run in group]
        values: dict[str, list[tuple[float, float]]] = {}
        for run in group:
            for series, rule in ranked_metrics(run):
                pair = find_best(series, rule)["value"], series.values[-1]
                values.setdefault(name_in_log(run, series), []).append(pair)
        name = folders[0] if len(folders) == 1 else f"{os.path.commonprefix(folders)}*"
        for metric, pairs in values.items() if len(runs) > 1 else ():
            spreads = (
                (statistics.fmean(each), statistics.stdev(each) if len(each) > 1 else None)
                for each in zip(*pairs, strict=True)
            )
            found.setdefault(metric, []).append(Variant(metric, name, len(pairs), *spreads))
    return [*chain(*found.values())]


def _variant_table(variants: Sequence[Variant]) -> str:
    rows = [[*map(str, each[:3]), *(_with_spread(*pair) for pair in each[3:])] for each in variants]
    rows.insert(0, [*Variant._fields])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(map(str.ljust, row, widths))} |\n" for row in rows) if variants else ""


def _with_spread(mean: float, spread: float | None) -> str:
    if spread is None:
        return f"{mean:.5g}"
    return f"{mean:.5g} ± {spread if spread > 1e-6 * abs(mean) else 0.0:.2g}"  # not a rounding error of float32
