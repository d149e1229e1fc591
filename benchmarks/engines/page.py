"""Writes docs/performance.md and the plot."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.engines import judge, tables
from benchmarks.engines.case import ENGINES, STEP, Case
from benchmarks.engines.judge import GoalResult
from benchmarks.engines.plot import draw
from benchmarks.engines.remarks import DIFFERENTLY, OPEN_ON_GPU, TRIED
from benchmarks.engines.results import Results
from benchmarks.engines.texts import NAMES, text
from benchmarks.tables import markdown

_PICTURE = "images/performance.svg"
_COMMANDS = """```sh
make bench
.venv/bin/python -m benchmarks engines --cases tiny norms --rounds 5
.venv/bin/python -m benchmarks engines --page
```"""


def write(cases: Sequence[Case], results: Results, docs: Path) -> list[Path]:
    """Writes the page and the plot, and returns their paths."""
    picture = docs / _PICTURE
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(draw(cases, results), encoding="utf-8")
    path = docs / "performance.md"
    path.write_text("\n\n".join(_parts(cases, results)) + "\n", encoding="utf-8")
    return [path, picture]


def _parts(cases: Sequence[Case], results: Results) -> Iterator[str]:
    goal_results = judge.judge(cases, results)
    yield f"# {text('title')}"
    yield text("intro")
    yield _run(results)
    yield f"## {text('steps')}"
    yield text("steps_about")
    yield f"![{text('plot')}]({_PICTURE})"
    names = [NAMES[each] for each in ENGINES]
    yield markdown([text("case"), *names], tables.step_rows(cases, results))
    yield f"## {text('gpu')}"
    yield text("gpu_about")
    head = [text("row"), text("command")]
    yield markdown(head, [[row, f"`{command}`"] for row, command in OPEN_ON_GPU])
    yield f"## {text('ahead')}"
    yield _ahead(cases, results)
    yield f"## {text('goals')}"
    head = [text(key) for key in ("case", "goal", "measured", "goal_result")]
    missed_first = sorted(goal_results, key=lambda each: each.state != "missed")
    yield markdown(head, tables.goal_result_rows(missed_first))
    yield f"### {text('misses')}"
    yield from _misses(goal_results, results)
    yield f"## {text('rest')}"
    yield from _rest(cases, results)
    yield from _reference(cases, results)


def _run(results: Results) -> str:
    if not results.measurements:
        return text("nothing")
    about, versions = results.about, results.versions.get(judge.OURS, {})
    known = {"python": versions.get("python", ""), "torch": versions.get("torch", "")}
    return text("run", **{**known, **about})


def _ahead(cases: Sequence[Case], results: Results) -> str:
    found = judge.leads(cases, results)
    if not found:
        return text("none_ahead")
    head = [text(key) for key in ("case", "engine", "share")]
    return markdown(head, tables.lead_rows(found))


def _misses(goal_results: Sequence[GoalResult], results: Results) -> Iterator[str]:
    missed = {each.case.name for each in goal_results if each.state == "missed"}
    if not missed:
        yield text("no_misses")
    for case in sorted(missed):
        if case in TRIED:
            yield text("tried", case=case, about=TRIED[case])
        if case in results.profiles:
            yield f"<details markdown>\n<summary>{text('profile', case=case)}</summary>"
            yield "```\n" + "\n".join(results.profiles[case]) + "\n```"
            yield "</details>"


def _rest(cases: Sequence[Case], results: Results) -> Iterator[str]:
    for case in cases:
        rows = tables.figure_rows(case, results) if STEP not in case.figures else []
        if rows:
            yield f"### {case.title}"
            yield case.about
            labels = [figure.label for figure in case.figures]
            yield markdown([text("engine"), *labels], rows)


def _reference(cases: Sequence[Case], results: Results) -> Iterator[str]:
    yield f"## {text('what')}"
    yield "\n".join(
        text(
            "described_case",
            name=case.name,
            title=case.title,
            about=case.about,
        )
        for case in cases
        if STEP in case.figures
    )
    yield f"## {text('differently')}"
    yield "\n".join(text("described_engine", name=NAMES[each], about=DIFFERENTLY[each]) for each in ENGINES)
    yield f"## {text('versions')}"
    known = [(each, results.versions[each]) for each in ENGINES if each in results.versions]
    rows = [[NAMES[each], held.get(each, ""), held["torch"]] for each, held in known]
    yield markdown([text("engine"), text("version"), "torch"], rows)
    yield f"## {text('again')}"
    yield text("again_about")
    yield _COMMANDS
