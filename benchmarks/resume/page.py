"""Writes docs/resume-table.md, its chart, and the sections of the engines in README.md next to this file.

They are made from the lines of results and the remarks on each engine.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from benchmarks.resume import chart
from benchmarks.resume.attacks import KILLS
from benchmarks.resume.environments import HERE
from benchmarks.tables import markdown

ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "resume-table.md"
DETAILS = HERE / "README.md"
CHART = ROOT / "docs" / "images" / "resume.svg"
TITLES = {
    "step": "in a step",
    "save": "in a save",
    "validation": "in validation",
    "epoch end": "after an epoch",
    "SIGTERM": "SIGTERM",
    "SIGINT": "Ctrl+C",
    "full disk": "full disk",
    "truncated": "truncated checkpoint",
    "workers": "1 worker instead of 2",
    "processes": "2 processes instead of 1",
}
_STATES = {
    "model": "weights",
    "averaged": "averaged weights",
    "optimizer": "optimizer state",
    "schedule": "schedule",
    "best": "best checkpoint",
}
_WORST = 100.0  # above this, a difference is of a value that should be about 0
_SAMPLES = {
    "equal": "",
    "augmentation": "other augmentation",
    "order": "other order of samples",
    "different": "samples repeated or missed",
}
_HANGS, _FAILS = "does not end", "does not restart"


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of results."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write(lines: list[dict[str, Any]]) -> Path:
    """Writes the page, the details and the chart. Returns the path of the page."""
    remarks = {path.stem: yaml.safe_load(path.read_text()) for path in (HERE / "remarks").glob("*.yaml")}
    engines = sorted({line["engine"] for line in lines}, key=lambda engine: remarks[engine]["name"].lower())
    dates = sorted(line["date"] for line in lines)
    filled = {
        "DATES": " to ".join(sorted({dates[0], dates[-1]})),
        "TRIALS": f"{len(lines):,}",
        "ENGINES": f"{len({remarks[engine]['name'].partition(',')[0] for engine in engines})} training engines",
        "KILLS": _table(engines, remarks, lines, [*KILLS]),
        "OTHERS": _table(engines, remarks, lines, [kind for kind in TITLES if kind not in KILLS], links=True),
        "FIGURES": _figures(engines, remarks, lines),
        "DETAILS": "\n".join(_details(remarks[engine], _of(lines, engine)) for engine in engines),
    }
    for template, target in (("page.md", PAGE), ("details.md", DETAILS)):
        text = (HERE / template).read_text()
        for name, value in filled.items():
            text = text.replace(f"<!-- {name} -->", value)
        target.write_text(text)
    CHART.write_text(chart.draw([(remarks[engine]["name"], _ends(_of(lines, engine))) for engine in engines]))
    return PAGE


def _ends(lines: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Returns how many kills ended bit-identical, with another result, and without a restart."""
    kills = [line for line in lines if line["kind"] in KILLS]
    exact, restarted = sum(map(is_exact, kills)), sum(line["restarts"] for line in kills)
    return exact, restarted - exact, len(kills) - restarted


def is_exact(line: dict[str, Any]) -> bool:
    """Returns whether a restarted run ended with the state of the run left alone, and used the same data."""
    states = (line[part][0] for part in _STATES if line["restarts"])
    return line["restarts"] and all(state in ("equal", "absent") for state in states) and line["data"] == "equal"


def describe(line: dict[str, Any]) -> str:
    """Summarizes the differences from the reference run in a few words."""
    if not line["restarts"]:
        return _HANGS if line["restart_code"] is None else _FAILS
    if is_exact(line):
        return "exact"
    words = _SAMPLES[line["data"]]
    if not words:
        names = [name for part, name in _STATES.items() if line[part][0] in ("close", "different")]
        words = "other " + ("weights" if "weights" in names else ", ".join(names))
    return words


def _of(lines: list[dict[str, Any]], engine: str, kind: str = "") -> list[dict[str, Any]]:
    return [line for line in lines if line["engine"] == engine and kind in ("", line["kind"])]


def _cell(remark: dict[str, Any], lines: list[dict[str, Any]], kind: str) -> str:
    if kind == "processes" and not remark.get("processes", True):
        return "not possible"
    counted = Counter(describe(line) for line in lines)
    if list(counted) == ["exact"]:
        return f"**exact** {len(lines)} of {len(lines)}"
    unmarked = ["exact"] if kind in ("workers", "processes") else ["exact", _HANGS, _FAILS]
    parts = []
    for words, count in counted.most_common():
        often = f"{count} of {count}" if len(counted) == 1 else count
        marked = kind in remark.get("not_promised", []) and words not in unmarked
        parts.append(f"{words} {often}{' (not promised)' if marked else ''}")
    return ", ".join(parts)


def _table(
    engines: list[str], remarks: dict[str, Any], lines: list[dict[str, Any]], kinds: list[str], *, links: bool = False
) -> str:
    head = ["engine", "its documentation promises", *(TITLES[kind] for kind in kinds)]
    rows = []
    for engine in engines:
        remark = remarks[engine]
        name = f"[{remark['name']}](#{_anchor(remark['name'])})" if links else remark["name"]
        rows.append(
            [
                f"{name} {remark['version']}",
                remark["promises"],
                *(_cell(remark, _of(lines, engine, kind), kind) for kind in kinds),
            ]
        )
    return markdown(head, rows)


def _figures(engines: list[str], remarks: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """Returns a table over the 30 kills of each engine."""
    head = [
        "engine",
        "restarted",
        *_STATES,
        "samples twice",
        "never",
        "batches repeated",
        "log",
        "files lost",
        "warned",
    ]
    rows = []
    for engine in engines:
        kills = [line for line in _of(lines, engine) if line["kind"] in KILLS]
        done = [line for line in kills if line["restarts"]]
        row = [remarks[engine]["name"], f"{len(done)} of {len(kills)}"]
        for part in _STATES:
            states = Counter(line[part][0] for line in done)
            if not done or "absent" in states:
                row.append("–")
            elif states["equal"] == len(done):
                row.append("equal")
            else:
                worst = max(line[part][1] for line in done)
                often = f"{states['equal']} of {len(done)} equal"
                row.append(f"{often}, up to {worst:.1g}" if worst < _WORST else often)
        repeated = sorted(line["repeated"] for line in done) or [0]
        row += [
            str(max((line["twice"] for line in done), default=0)),
            str(max((line["never"] for line in done), default=0)),
            f"{repeated[len(repeated) // 2]} (up to {repeated[-1]})",
            ", ".join(
                f"{state} {count}" for state, count in Counter(line["log"] for line in done).most_common() if state
            )
            or "–",
            ", ".join(sorted({name for line in done if is_exact(line) for name in _lost(line)})) or "none",
            remarks[engine].get("said", "–"),
        ]
        rows.append(row)
    return markdown(head, rows)


def _lost(line: dict[str, Any]) -> set[str]:
    """Returns the files that the restarted run lacks. Another version of a name, such as `last-v1.ckpt`, counts."""
    return set(line["lost"]) - {re.sub(r"-v\d+(?=\.)", "", name) for name in line["left"]}


def _details(remark: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    parts = [f"### {remark['name']}", "", f"Version {remark['version']}."]
    if remark["options"]:
        parts += ["", "Set for exactness:", "", *(f"- {option}" for option in remark["options"])]
    if remark["missing"]:
        parts += ["", "Not offered: " + "; ".join(remark["missing"]) + "."]
    parts += ["", "What its documentation says:", ""]
    parts += [f"> {promise['sentence']} ([source]({promise['url']}))\n>" for promise in remark["promise"]]
    parts[-1] = parts[-1].removesuffix("\n>")
    rows = []
    for kind, title in TITLES.items():
        own = [line for line in lines if line["kind"] == kind]
        why = remark["cells"].get(kind) or remark["cells"]["exact"]
        rows.append([title, _cell(remark, own, kind), why])
    return "\n".join([*parts, "", markdown(["attack", "result", "why"], rows), ""])


def _anchor(name: str) -> str:
    return "".join(char for char in name.lower().replace(" ", "-") if char.isalnum() or char in "-_")
