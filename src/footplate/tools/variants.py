"""Groups runs that differ only in their seeds into variants, and compares the variants."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from footplate.config.formats import write_value
from footplate.error_context import join_path, walk_paths
from footplate.tools.diff import LAUNCHED, Difference, Side, compare_runs
from footplate.tools.run_facts import Data, Described
from footplate.tools.run_files import comparable, shortened
from footplate.tools.runs import Run

_LAST = (LAUNCHED["seed"], LAUNCHED["code"])
_MIN_SEEDS = 3  # equal variants of three seeds each are separated in 2 of 20 comparisons
_MISSING = "–"
_DONE = "(completed iterations)"


def compare_variants(described: Sequence[Described]) -> tuple[list[Described], list[Data]]:
    """Groups runs by variant, and sorts the variants by the mean of the headline metric, from best to worst.

    The runs of a variant are sorted, too, those that its mean covers before the others. Runs and variants without the
    metric come last. If the rule of the metric is unknown, keeps the order of those that have it.

    Returns:
        The sorted runs, and one dict per variant with these keys:

        - `runs`: the indices of its runs.
        - `counted`: the indices of the runs that its mean covers; see `counted_runs`.
        - `seeds`: how many different seeds these runs have. The folds of a cross-validation may share one.
        - `headline`: the `mean`, `deviation`, `lowest` and `highest` of the best values of the headline metric over
          these runs, or None if no run has it. `deviation` (with n - 1) is None for a single run.
        - `metrics`: the same for the `best` and the `last` value of each metric, keyed by name.
        - `clear`: whether the data show a difference from the best variant or, for the best variant, from the second
          best: each variant has at least three seeds, and every seed of one is better than every seed of the other.
    """

    def rank(group: Sequence[Described]) -> float:
        metrics = [facts["metric"] for _, facts in group if facts["metric"]]
        sign = {True: 1, False: -1, None: 0}
        return fmean(sign[metric["small"]] * metric["value"] for metric in metrics) if metrics else math.inf

    groups = [(group, counted_runs(group)) for group in group_by_variant(described)]
    ordered: list[Described] = []
    variants: list[Data] = []
    for group, counted in sorted(groups, key=lambda pair: rank(pair[1])):
        start, facts_of_all = len(ordered), [facts for _, facts in counted]
        seeds = [seed_of(run) for run, _ in counted]
        variants.append(
            {
                "runs": [*range(start, start + len(group))],
                "counted": [*range(start, start + len(counted))],
                "seeds": len({*seeds} - {""}) + seeds.count(""),  # runs whose seed is unknown count as different
                "headline": _spread([facts["metric"]["value"] for facts in facts_of_all if facts["metric"]]),
                "metrics": {
                    name: {
                        kind: _spread(
                            [facts["metrics"][name][key] for facts in facts_of_all if name in facts["metrics"]]
                        )
                        for kind, key in (("best", "value"), ("last", "last"))
                    }
                    for name in dict.fromkeys(chain(*(facts["metrics"] for facts in facts_of_all)))
                },
            }
        )
        ordered += sorted(group, key=lambda pair: (pair not in counted, rank([pair])))
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


def group_by_variant(described: Sequence[Described]) -> list[list[Described]]:
    """Groups runs that differ only in their seeds, folds and work_dirs.

    A fold is the value of any key called `fold`, which cross-validation changes.

    The configs, initial weights, code and numbers of processes of a group are the same. Tests belong together if they
    evaluate checkpoints of the same kind, such as the best one, from different folders. A run without a config is a
    group of its own.
    """
    groups: dict[tuple[Any, ...], list[Described]] = {}
    occurrences = Counter[tuple[Any, ...]]()
    for place, (run, facts) in enumerate(described):
        path = Path(run.evaluated.checkpoint if run.evaluated else run.folder / "_")
        weights = path.name[:5] if run.evaluated else str(run.settings.get("load_from"))  # such as "best_" or "iter_"
        settings = re.sub(r"'fold': [^,}]*", "", comparable(run.config)) if run.settings else place
        key = settings, weights, run.environment.get("code"), run.environment.get("processes")
        occurrences[key, path.parent] += 1
        groups.setdefault((*key, occurrences[key, path.parent]), []).append((run, facts))
    return [*groups.values()]


def counted_runs(variant: Sequence[Described]) -> list[Described]:
    """Returns the runs that the mean of a variant covers: the complete ones, or all runs if none is complete.

    A run is complete if it evaluates only, or has ended and was not stopped early, except by a hook. Of several runs
    with the same config and seed, only the latest counts.
    """
    complete = [(run, facts) for run, facts in variant if run.evaluated or facts["state"]["complete"]]
    latest: dict[Any, Described] = {}
    counted = complete or [*variant]
    counted.sort(key=lambda pair: ([start.folder.name for start in pair[0].launches[-1:]], str(pair[0].folder)))
    for run, facts in counted:
        seed = seed_of(run)  # a fold with the same seed has a different config
        latest[(comparable(run.config), seed) if seed else run.folder] = run, facts
    return [pair for pair in variant if pair in latest.values()]


def seed_of(run: Run) -> str:
    """Returns the seed of a run as text, or "" if it is unknown."""
    randomness = run.settings.get("randomness")
    seed = run.environment.get("seed", randomness.get("seed") if isinstance(randomness, Mapping) else None)
    return "" if seed is None else str(seed)


def config_table(described: Sequence[Described], variants: Sequence[Data]) -> list[Data]:
    """Returns the settings that differ between runs: config keys, `LAUNCHED` and the completed iterations.

    Each is a dict with its `key`, a short `name`, the `values` of each variant as text, and `distinguishes`: whether it
    differs between variants, but not inside any of them. The seed and the digest of the code distinguish variants only
    if nothing else does.
    """
    rows: dict[str, list[str]] = {}
    runs = [run for run, _ in described]
    reference, pairs = runs[0], list[dict[str, Difference]]()
    for run in runs:
        configs = [each.config for each in (reference, run) if each.config is not None]
        found = compare_runs(configs, [reference.environment, run.environment]) if configs[1:] else ()
        pairs.append({each.path: each for each in found})
    for path, (_, first, _) in dict(chain.from_iterable(found.items() for found in pairs)).items():
        rows[path] = [
            _MISSING if run.config is None else _brief(_side_of(run, path, found, first))
            for run, found in zip(runs, pairs, strict=True)
        ]
    rows |= {name: [str(run.environment.get(key, _MISSING)) for run in runs] for key, name in LAUNCHED.items()}
    rows[LAUNCHED["seed"]] = [seed_of(run) or _MISSING for run in runs]
    rows[_DONE] = [f"{facts['state']['done']:,}" for _, facts in described]
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
                    "distinguishes": key != _DONE and all(len(each) == 1 for each in values),
                }
            )
    if any(row["distinguishes"] and row["key"] not in _LAST for row in table):
        for row in table:
            row["distinguishes"] = row["distinguishes"] and row["key"] not in _LAST
    return table


def _side_of(run: Run, path: str, found: Mapping[str, Difference], first: Side | None) -> Side | None:
    """Returns the value of a run at a path, given its differences from the first run and the first run's value."""
    if path in found:
        return found[path].second
    pairs = [*((path, other) for other in found), *((other, path) for other in found)]
    if not any(inner.startswith((f"{outer}.", f"{outer}[")) for inner, outer in pairs):
        return first
    # A container of the value, or a part of it, differs.
    return next((Side(value, None) for keys, value in walk_paths(run.settings) if join_path(keys) == path), None)


def _brief(side: Side | None) -> str:
    if side is None:
        return _MISSING
    return f"{side.value:.12g}" if isinstance(side.value, float) else shortened(write_value(side.value))
