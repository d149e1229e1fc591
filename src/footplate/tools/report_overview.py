"""Collects the data for the overview sections of a report: runs, and differences between configs."""

import math
import shlex
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from footplate.checkpoint_names import BEST, best_prefix
from footplate.engine.plan.arguments import PYTHON_ARGUMENTS
from footplate.messages import format_bytes, one_line
from footplate.metric_names import split_dataset
from footplate.tools.analysis import (
    SAVED,
    Headline,
    count_iterations,
    counted_runs,
    find_best,
    group_by_variant,
    headline_series,
    name_in_log,
    seed_of,
    summarize,
)
from footplate.tools.checkpoint_contents import code_to_load
from footplate.tools.diff import Side, compare
from footplate.tools.explain_keys import brief
from footplate.tools.run_files import modification_time
from footplate.tools.runs import Run

_MIN_SEEDS = 3  # equal variants of three seeds each are separated in 2 of 20 comparisons
_MAX_WIDTH = 48
_MISSING = "–"
_SEED = "randomness.seed"
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
Data = dict[str, Any]  # in the form that the page's script reads


def order_variants(runs: Sequence[Run], headline: Headline | None) -> list[list[Run]]:
    """Groups runs by variant, and sorts the variants by the mean of the headline metric, from best to worst.

    The runs of a variant are sorted, too, those that its mean covers before the others. Runs and variants without the
    metric come last. If the rule of the metric is unknown, keeps the order of those that have it.
    """
    sign = {"greater": -1, "less": 1, None: 0}

    def rank(group: Sequence[Run]) -> float:
        values = _best_values(group, headline)
        return fmean(values) * sign[headline[1]] if headline and values else math.inf

    groups = []
    for group in group_by_variant(runs):
        counted = counted_runs(group)
        groups.append(sorted(group, key=lambda run: (run not in counted, rank([run]))))
    return sorted(groups, key=lambda group: rank(counted_runs(group)))


def describe_variants(variants: Sequence[Sequence[Run]], headline: Headline | None) -> list[Data]:
    """Returns the data of variants for the report.

    Returns:
        One dict per variant with these keys:

        - `runs`: the indices of its runs in the report.
        - `counted`: the indices of the runs that its mean covers; see `counted_runs`.
        - `seeds`: how many different seeds these runs have. The folds of a cross-validation may share one.
        - `mean`, `deviation`, `lowest` and `highest`: the best values of the headline metric over these runs. `mean` is
          None if no run has the metric, and `deviation` (with n - 1) if fewer than two have it.
        - `clear`: whether the data show a difference from the best variant or, for the best variant, from the second
          best: each variant has at least three seeds, and every seed of one is better than every seed of the other.
    """
    counted = [*map(counted_runs, variants)]
    values = [_best_values(runs, headline) for runs in counted]
    seeds = [*map(_count_seeds, counted)]
    described, start = [], 0
    for place, (variant, own) in enumerate(zip(variants, values, strict=True)):
        rival = 0 if place else min(1, len(variants) - 1)  # the variant itself, from which no value differs
        other, has_enough = values[rival], min(seeds[place], seeds[rival]) >= _MIN_SEEDS
        described.append(
            {
                "runs": [start + number for number in range(len(variant))],
                "counted": [start + number for number, run in enumerate(variant) if run in counted[place]],
                "mean": fmean(own) if own else None,
                "deviation": stdev(own) if len(own) > 1 else None,
                "lowest": min(own, default=None),
                "highest": max(own, default=None),
                "seeds": seeds[place],
                "clear": has_enough and bool(own and other) and (min(own) > max(other) or max(own) < min(other)),
            }
        )
        start += len(variant)
    return described


def _count_seeds(runs: Sequence[Run]) -> int:
    """Returns the number of different seeds. Runs whose seed is unknown count as different."""
    seeds = [seed_of(run) for run in runs]
    return len({*seeds} - {""}) + seeds.count("")


def _best_values(runs: Sequence[Run], headline: Headline | None) -> list[float]:
    series = [headline_series(run, headline) for run in runs]
    return [find_best(each, headline[1])["value"] for each in series if each and headline]


def describe_run(run: Run, headline: Headline | None) -> Data:
    """Returns the overview data of a run for the report.

    Returns:
        A dict with the summary of the run (see `summarize`) and these keys:

        - `metric`: the first, best and last value of the headline metric with their iterations. If the rule of the
          metric is unknown, see `find_best`. None if the run does not have the metric.
        - `problem`: which loss or headline metric ends non-finite, or "".
        - `use`: the checkpoint to use and a command that predicts with it, or None.
        - `device`: the accelerator, or "CPU", or "" if unknown.
        - `config_name`: the name of the config in the run folder, without its suffix, or "".
        - `launches`: the folder names of the training launches, sorted by time.
    """
    series, metric = headline_series(run, headline), None
    if headline and series:
        first, last = ({"value": value, "iteration": at} for at, value in (series.points[0], series.points[-1]))
        metric = {**find_best(series, headline[1]), "first": first, "last": last, "count": len(series.points)}
    device = run.environment.get("accelerator")
    configs = sorted(run.folder.glob("*.py"), key=modification_time)
    return {
        **summarize(run),
        "metric": metric,
        "problem": _find_problem(run, headline),
        "use": _checkpoint_to_use(run, headline[0].name if headline else ""),
        "device": {"none": "CPU"}.get(device, device) if isinstance(device, str) else "",
        "config_name": configs[-1].stem if configs else "",
        "launches": [start.folder.name for start in run.launches if start.trains],
    }


def _find_problem(run: Run, headline: Headline | None) -> str:
    """Returns a sentence if the headline metric or a loss ends non-finite, or ""."""
    losses = [series for name, series in run.scalars("val").items() if split_dataset(name)[1] == "loss"]
    for series in filter(None, (headline_series(run, headline), *losses, run.scalars("train").get("loss"))):
        if series.ends_nonfinite:
            name = f"training {series.name}" if series.mode == "train" else name_in_log(run, series)
            return f"The {name} is non-finite after iteration {series.points[-1][0]:.0f}."
    return "The training loss was never finite." if "loss" in run.never_finite else ""


def _checkpoint_to_use(run: Run, headline: str) -> Data | None:
    """Returns the best checkpoint (or the last one if none is marked as best), with a command that uses it.

    The command is `footplate predict`. For a run that was started from Python, which has no data pipeline, it is Python
    code that loads the weights. Returns None if the run has no checkpoints.
    """
    # A log line does not show whether "val/acc" belongs to a single validation set with the name "val".
    prefixes = best_prefix(headline), best_prefix(f"val/{headline}")
    best = [
        file
        for file in run.checkpoints
        if any(file.name.startswith(start) and SAVED.fullmatch(file.name.removeprefix(start)) for start in prefixes)
    ]
    others = [file for file in run.checkpoints if not file.name.startswith(BEST)]
    candidates = best or [file for file in others if SAVED.fullmatch(file.name)] or others  # not averaged weights
    if not candidates:
        return None
    file = candidates[-1]
    cfg = run.settings
    lines = [f"footplate predict {shlex.quote(str(file))} IMAGES"]
    if cfg.keys() & PYTHON_ARGUMENTS or any(isinstance(cfg.get(key), str) for key in ("model", *_LOADERS)):
        lines = code_to_load(str(file))
    size = format_bytes(run.checkpoints[file])
    return {"best": bool(best), "name": file.name, "command": "\n".join(map(one_line, lines)), "size": size}


def config_table(runs: Sequence[Run]) -> list[Data]:
    """Returns the config keys, seeds and iterations that differ between runs, with their values as text.

    Omits `work_dir`.
    """
    reference = runs[0].config
    facts = {
        _SEED: [seed_of(run) or _MISSING for run in runs],
        "(completed iterations)": [f"{count_iterations(run):,}" for run in runs],
    }
    rows = {name: texts for name, texts in facts.items() if len(set(texts)) > 1}
    for place, run in enumerate(runs):
        if reference is None or run.config is None:
            continue
        for path, first, other in compare(reference, run.config):
            if path not in ("work_dir", _SEED):
                row = rows.setdefault(path, [_brief(first) if each.config is not None else _MISSING for each in runs])
                row[place] = _brief(other)
    return [{"key": path, "values": texts} for path, texts in rows.items()]


def _brief(side: Side | None) -> str:
    if side is None:
        return _MISSING
    return f"{side.value:.4g}" if isinstance(side.value, float) else brief(side.value, _MAX_WIDTH)
