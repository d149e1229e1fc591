"""Groups runs that differ only in their seeds into variants, and compares the variants."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from footplate.tools.diff import LAUNCHED, Side, compare_runs
from footplate.tools.explain_keys import brief
from footplate.tools.run_facts import (
    Data,
    Metric,
    count_iterations,
    find_best,
    headline_series,
    name_in_log,
    ranked_metrics,
    run_state,
)
from footplate.tools.run_files import comparable
from footplate.tools.runs import Run

_MIN_SEEDS = 3  # equal variants of three seeds each are separated in 2 of 20 comparisons
_MAX_WIDTH = 48
_MISSING = "–"
_DONE = "(completed iterations)"


def compare_variants(runs: Sequence[Run], headline: Metric | None) -> tuple[list[Run], list[Data]]:
    """Groups runs by variant, and sorts the variants by the mean of the headline metric, from best to worst.

    The runs of a variant are sorted, too, those that its mean covers before the others. Runs and variants without the
    metric come last. If the rule of the metric is unknown, keeps the order of those that have it.

    Returns:
        The sorted runs, and one dict per variant with these keys:

        - `name`: the name of its run, or what the names of its runs have in common.
        - `runs`: the indices of its runs.
        - `counted`: the indices of the runs that its mean covers; see `counted_runs`.
        - `seeds`: how many different seeds these runs have. The folds of a cross-validation may share one.
        - `headline`: the `mean`, `deviation`, `lowest` and `highest` of the best values of the headline metric over
          these runs, or None if no run has it. `deviation` (with n - 1) is None for a single run.
        - `metrics`: the same for the `best` and the `last` value of each metric, keyed by name.
        - `clear`: whether the data show a difference from the best variant or, for the best variant, from the second
          best: each variant has at least three seeds, and every seed of one is better than every seed of the other.
    """
    sign = {"greater": -1, "less": 1, None: 0}

    def best_of(group: Sequence[Run]) -> list[float]:
        series = [headline_series(run, headline) for run in group]
        return [find_best(each, headline[1])["value"] for each in series if each and headline]

    def rank(group: Sequence[Run]) -> float:
        values = best_of(group)
        return fmean(values) * sign[headline[1]] if headline and values else math.inf

    groups = [(group, counted_runs(group)) for group in group_by_variant(runs)]
    ordered: list[Run] = []
    variants: list[Data] = []
    for group, counted in sorted(groups, key=lambda pair: rank(pair[1])):
        group.sort(key=lambda run: (run not in counted, rank([run])))
        metrics: dict[str, list[tuple[float, float]]] = {}
        for run in counted:
            for series, rule in ranked_metrics(run):
                pair = find_best(series, rule)["value"], series.values[-1]
                metrics.setdefault(name_in_log(run, series), []).append(pair)
        seeds = [seed_of(run) for run in counted]
        start = len(ordered)
        variants.append(
            {
                "runs": [start + place for place in range(len(group))],
                "counted": [start + place for place in range(len(counted))],
                "seeds": len({*seeds} - {""}) + seeds.count(""),  # runs whose seed is unknown count as different
                "headline": _spread(best_of(counted)),
                "metrics": {
                    name: dict(zip(("best", "last"), map(_spread, zip(*pairs, strict=True)), strict=True))
                    for name, pairs in metrics.items()
                },
            }
        )
        ordered += group
    for place, variant in enumerate(variants):
        rival = variants[0 if place else min(1, len(variants) - 1)]  # the variant itself, from which no value differs
        own, other = variant["headline"], rival["headline"]
        has_enough = min(variant["seeds"], rival["seeds"]) >= _MIN_SEEDS
        variant["clear"] = bool(has_enough and own and other) and (
            own["lowest"] > other["highest"] or own["highest"] < other["lowest"]
        )
    return ordered, variants


def _spread(values: Sequence[float]) -> Data | None:
    if not values:
        return None
    deviation = stdev(values) if len(values) > 1 else None
    return {"mean": fmean(values), "deviation": deviation, "lowest": min(values), "highest": max(values)}


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


def config_table(runs: Sequence[Run], variants: Sequence[Data]) -> list[Data]:
    """Returns the settings that differ between runs: config keys, `LAUNCHED` and the completed iterations.

    Each is a dict with its `key`, a short `name`, the `values` of each variant as text, and `distinguishes`: whether it
    differs between variants, but not inside any of them.
    """
    rows: dict[str, list[str]] = {}
    reference = runs[0]
    for place, run in enumerate(runs):
        configs = [each.config for each in (reference, run) if each.config is not None]
        pairs = compare_runs(configs, [reference.environment, run.environment]) if configs[1:] else ()
        for path, first, other in pairs:
            texts = [_MISSING if each.config is None else _brief(first) for each in runs]
            rows.setdefault(path, texts)[place] = _brief(other)
    rows |= {name: [str(run.environment.get(key, _MISSING)) for run in runs] for key, name in LAUNCHED.items()}
    rows[LAUNCHED["seed"]] = [seed_of(run) or _MISSING for run in runs]
    rows[_DONE] = [f"{count_iterations(run):,}" for run in runs]
    ends = Counter(key.rpartition(".")[2] for key in rows)
    table = []
    for key, texts in rows.items():
        values = [[*dict.fromkeys(texts[run] for run in variant["runs"])] for variant in variants]
        if len({*texts}) > 1:
            end = key.rpartition(".")[2]
            table.append(
                {
                    "key": key,
                    "name": end if ends[end] == 1 else key,
                    "values": [", ".join(each) for each in values],
                    "distinguishes": key != _DONE and len(variants) > 1 and all(len(each) == 1 for each in values),
                }
            )
    return table


def _brief(side: Side | None) -> str:
    if side is None:
        return _MISSING
    return f"{side.value:.4g}" if isinstance(side.value, float) else brief(side.value, _MAX_WIDTH)
