"""Writes the HTML page of a report."""

import html
import json
import logging
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

from footplate.hooks.metric_rules import Rule
from footplate.messages import printable
from footplate.storage import commit_bytes
from footplate.tools.diff import compare, describe
from footplate.tools.report_classes import class_history
from footplate.tools.report_curves import arrange_charts
from footplate.tools.report_images import embed_images
from footplate.tools.report_overview import best_first, choose_headline, describe_run
from footplate.tools.report_sweep import SweepSummary, config_table, sweep_data
from footplate.tools.runs import Run, Series

_logger = logging.getLogger("footplate.tools")
_MAX_IMAGE_BYTES = 1_200_000
_SCRIPTS = ("basics", "chart", "overview", "sections", "classes", "texts", "sweep", "page")


def write_report(
    runs: Sequence[Run],
    path: str,
    *,
    names: Sequence[str] = (),
    title: str = "",
    sweep: SweepSummary | None = None,
) -> int:
    """Writes a report of runs to a self-contained HTML file that works offline.

    Args:
        runs: The runs. Several runs are compared. The best run is shown first, but runs of a sweep keep their order.
        path: The path of the file.
        names: The names of the runs. By default, the folder names, with as many parent folders as needed to distinguish
            them.
        title: The title of the page. By default, the names of the runs.
        sweep: The sweep to which the runs belong.

    Returns:
        The size of the file in bytes.
    """
    names = list(names)
    if not names:
        paths = [run.folder.resolve() for run in runs]
        for depth in range(1, max(len(path.parts) for path in paths) + 1):  # until the names are distinct
            names = ["/".join(path.parts[-depth:]) for path in paths]
            if len(set(names)) == len(set(paths)):
                break
    headline = choose_headline(runs, sweep.metric if sweep else "")
    if sweep is None:  # the runs of a sweep come in the order of its trials
        order = best_first(runs, headline)
        runs, names = [runs[place] for place in order], [names[place] for place in order]
    title = title or (" vs. " if len(names) == 2 else ", ").join(names)
    # JSON in a script element must not contain `<!--`, `<script` or `</script`.
    content = _data(runs, names, headline, is_table=sweep is not None or len(runs) > 2)
    data = {"title": title, "sweep": sweep and sweep_data(sweep), **content}
    script_data = json.dumps(_as_json(data), separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        script_data = script_data.replace(character, f"\\u{ord(character):04x}")
    page = Template(_asset("page.html")).substitute(
        title=html.escape(printable(title)),
        style=_asset("page.css"),
        script="\n".join(_asset(f"{name}.js") for name in _SCRIPTS),
        data=script_data,
    )
    written = page.encode()
    commit_bytes(path, written)
    return len(written)


def _data(
    runs: Sequence[Run], names: Sequence[str], headline: tuple[Series, Rule] | None, *, is_table: bool
) -> dict[str, Any]:
    """Returns the data that the script of the page reads.

    Args:
        runs: The runs.
        names: The names of the runs.
        headline: The headline metric and its rule.
        is_table: Whether to compare the configs of all runs in a table, rather than each with that of the first run.
    """
    images = embed_images(runs, _MAX_IMAGE_BYTES)
    for line in (line for lines in images.unread.values() for line in lines):
        _logger.warning("%s", line)
    described = [describe_run(run, headline) for run in runs]
    charts = arrange_charts(runs, headline[0] if headline else None)
    best_steps = [each["metric"] and each["metric"]["iteration"] for each in described]
    tables = class_history(runs, best_steps)
    for chart in charts.metrics:
        stem = chart["name"].rpartition("/")[2]
        shown = [  # a chart may show the mean of a column, for example `mIoU` that of `IoU`
            {"table": number, "column": place}
            for number, table in enumerate(tables)
            if table["mode"] == chart["mode"] and table["set"] in (chart["set"], "")
            for place, column in enumerate(table["runs"][0]["columns"])
            if stem in (column, f"m{column}")
        ]
        chart["classes"] = shown[0] if shown else None
    return {
        "headline": headline and {"name": headline[0].name, "mode": headline[0].mode, "small": headline[1] == "less"},
        "runs": [
            {
                "name": names[place],
                **described[place],
                "config": run.explained or (run.config.pretty_text if run.config is not None else ""),
                "environment": run.environment,
                "warnings": [*run.warnings, *images.unread.get(place, [])],
            }
            for place, run in enumerate(runs)
        ],
        "charts": charts._asdict(),
        "classes": tables,
        "images": images.found,
        "sources": images.sources,
        "imagesLeftOut": images.left_out,
        "differences": [
            {
                "name": name,
                "text": describe([each for each in compare(runs[0].config, run.config) if each.path != "work_dir"]),
            }
            for name, run in zip(names[1:], runs[1:], strict=True)
            if runs[0].config is not None and run.config is not None and not is_table
        ],
        "configTable": config_table(runs) if is_table else None,
    }


def _asset(name: str) -> str:
    return (files("footplate.tools") / "report_assets" / name).read_text(encoding="utf-8")


def _as_json(value: Any) -> Any:
    """Replaces non-finite numbers with None, because JSON cannot represent them, and escapes unprintable characters."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): _as_json(each) for key, each in value.items()}
    return [_as_json(each) for each in value] if isinstance(value, (list, tuple)) else value
