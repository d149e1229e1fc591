"""Describes runs as data, which `report` shows as a page and `analyze` as text."""

import os
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from footplate.messages import format_bytes, format_seconds, labeled
from footplate.tools.run_facts import Data, choose_headline, describe_run
from footplate.tools.runs import Run
from footplate.tools.variants import compare_variants, config_table

_MAX_NAME = 24  # characters of a name of settings
_NUMBERING = re.compile("([-_.](s|seed|run|fold))?[-_.]*$")  # at the end of what `base-s0` and `base-s1` have in common


def describe_runs(runs: Sequence[Run]) -> tuple[list[Run], Data]:
    """Returns the runs, sorted as by `compare_variants`, and the facts about them.

    The facts are a dict with these keys:

    - `headline`: the `name`, `mode` and `rule` of the metric for comparing runs, or None.
    - `runs`: a dict for each run; see `describe_run`. It also contains the `folder` and a short `name`.
    - `variants`: a dict for each variant; see `compare_variants`. It also contains a `name`.
    - `differences`: the settings that differ; see `config_table`.
    """
    headline = choose_headline(runs)
    described, variants = compare_variants([(run, describe_run(run, headline)) for run in runs])
    ordered = [run for run, _ in described]
    names, differences = _distinct_names(ordered), config_table(described, variants)
    titles = _variant_names(variants, names, differences)
    return ordered, {
        "headline": headline and {"name": headline[0].name, "mode": headline[0].mode, "rule": headline[1]},
        "runs": [
            {"name": name, "folder": str(run.folder), **facts}
            for name, (run, facts) in zip(names, described, strict=True)
        ],
        "variants": [{"name": title, **variant} for title, variant in zip(titles, variants, strict=True)],
        "differences": differences,
    }


def _distinct_names(runs: Sequence[Run]) -> list[str]:
    """Returns the folder names of runs, with as many parent folders as needed to distinguish them.

    A run that only evaluates is named after its checkpoint and its config.
    """
    paths, depth = [run.folder.resolve() for run in runs], 1
    for place, run in enumerate(runs):
        if (start := run.evaluated) and start.checkpoint:
            paths[place], depth = Path(f"{start.checkpoint} ({Path(start.config).stem})"), 2
    while len({path.parts[-depth:] for path in paths}) < len(set(paths)):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]


def _variant_names(variants: Sequence[Data], runs: Sequence[str], differences: Sequence[Data]) -> list[str]:
    """Returns a name for each variant: its only run, the settings that distinguish it, or what its runs' names share.

    Falls back to the names of all runs.
    """
    members = [[runs[run] for run in variant["runs"]] for variant in variants]
    settings = [row for row in differences if row["distinguishes"]]
    by_settings = [
        ", ".join(f"{row['name']}={row['values'][place]}" for row in settings) for place in range(len(variants))
    ]
    common = [each[0] if len(each) == 1 else _NUMBERING.sub("", os.path.commonprefix(each)) for each in members]
    is_short = len(members) < len(runs) and max(map(len, by_settings)) <= _MAX_NAME
    for names in (by_settings if is_short else common, common):
        if all(names) and len({*names}) == len(names):
            return names
    return [" + ".join(each) for each in members]


def explain_runs(facts: Data) -> str:
    """Formats the facts about runs as text. For several runs, adds Markdown tables of their settings and metrics."""
    texts = [_explain_run(run) for run in facts["runs"]]
    if len(texts) > 1:
        variants = facts["variants"]
        settings = [[row["key"], *row["values"]] for row in facts["differences"]]
        spreads = [
            [name, variant["name"], str(len(variant["counted"])), *map(_with_spread, variant["metrics"][name].values())]
            for name in dict.fromkeys(chain(*(variant["metrics"] for variant in variants)))
            for variant in variants
            if name in variant["metrics"]
        ]
        texts.append(_table(["different", *(variant["name"] for variant in variants)], settings))
        texts.append(_table(["metric", "variant", "runs", "best", "last"], spreads))
        if len(variants) < len(facts["runs"]):
            texts.append("± is the standard deviation over the runs of a variant (n - 1).\n")
    return "\n".join(filter(None, texts))


def _explain_run(run: Data) -> str:
    rows, length = [], run["epoch_length"]
    for name, metric in run["metrics"].items():
        at = metric["iteration"]
        text = f"{name} {metric['value']:.6g} at iteration {at:.12g}"
        if length and at and not at % length:
            text += f" (epoch {at // length:.0f})"
        if metric["small"] is None:
            text += f" (lowest {metric['lowest']:.6g}, highest {metric['highest']:.6g})"
        rows += [("final" if metric["small"] is None else "best", text)] if metric["mode"] == "val" else []
    for checkpoint, test in run["tests"].items():
        text = ", ".join(f"{name} {value:.6g}" for name, value in test.items() if name != "iteration")
        rows.append(("test", f"{checkpoint}: {text}" if checkpoint else text))
    if run["problem"]:
        rows.append(("problem", run["problem"]["text"]))
    if run["time"]:
        rows.append(("time", f"{format_seconds(run['time'])}, {run['cost']}"))
    if run["last"]:
        values = ", ".join(f"{name} {value:.4g}" for name, value in run["last"].items())
        rows.append(("last", f"at iteration {run['logged']}: {values}"))
    rows += [("checkpoint", f"{name}, {format_bytes(size)}") for name, size in run["checkpoints"].items()]
    head = f"{run['folder']}: {run['state']['name']} ({run['state']['text']})\n"
    return head + "".join(f"  {labeled(*row)}\n" for row in rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table, or "" without rows."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [cells[0], ["-" * width for width in widths], *cells[1:]] if rows else []
    return "".join(f"| {' | '.join(map(str.ljust, line, widths))} |\n" for line in lines)


def _with_spread(spread: Data) -> str:
    mean, deviation = spread["mean"], spread["deviation"]
    if deviation is None:
        return f"{mean:.5g}"
    return f"{mean:.5g} ± {deviation if deviation > 1e-6 * abs(mean) else 0.0:.2g}"  # not a rounding error of float32
