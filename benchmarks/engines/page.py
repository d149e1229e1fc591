"""Writes docs/performance.md and the plot."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.engines import judge, tables
from benchmarks.engines.case import ENGINES, STEP, Case
from benchmarks.engines.judge import GoalResult
from benchmarks.engines.plot import draw
from benchmarks.engines.remarks import DIFFERENTLY, OPEN_ON_GPU, TRIED
from benchmarks.engines.results import Results
from benchmarks.engines.texts import NAMES, pick, text

_PICTURE = "images/performance.svg"
_COMMANDS = """```sh
make bench
.venv/bin/python -m benchmarks.engines --cases tiny norms --rounds 5
.venv/bin/python -m benchmarks.engines --page
```"""


def write(cases: Sequence[Case], results: Results, docs: Path) -> list[Path]:
    """Writes the page and the plot, and returns their paths."""
    picture = docs / _PICTURE
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(draw(cases, results), encoding="utf-8")
    path = docs / "performance.md"
    path.write_text("\n\n".join(_parts(cases, results, "en")) + "\n", encoding="utf-8")
    return [path, picture]


def _parts(cases: Sequence[Case], results: Results, language: str) -> Iterator[str]:
    goal_results = judge.judge(cases, results)
    yield f"# {text('title', language)}"
    yield text("intro", language)
    yield _run(results, language)
    yield f"## {text('ahead', language)}"
    yield _ahead(cases, results, language)
    yield f"## {text('goals', language)}"
    head = [text(key, language) for key in ("case", "goal", "measured", "goal_result")]
    yield tables.markdown(head, tables.goal_result_rows(goal_results, language))
    yield f"### {text('misses', language)}"
    yield from _misses(goal_results, results, language)
    yield f"## {text('steps', language)}"
    yield text("steps_about", language)
    yield f"![{text('plot', language)}]({_PICTURE})"
    names = [pick(NAMES[each], language) for each in ENGINES]
    yield tables.markdown([text("case", language), *names], tables.step_rows(cases, results, language))
    yield f"## {text('gpu', language)}"
    yield text("gpu_about", language)
    head = [text("row", language), text("command", language)]
    yield tables.markdown(head, [[pick(row, language), f"`{command}`"] for row, command in OPEN_ON_GPU])
    yield f"## {text('rest', language)}"
    yield from _rest(cases, results, language)
    yield from _reference(cases, results, language)


def _run(results: Results, language: str) -> str:
    if not results.measurements:
        return text("nothing", language)
    about, versions = results.about, results.versions.get(judge.OURS, {})
    known = {"python": versions.get("python", ""), "torch": versions.get("torch", "")}
    return text("run", language, **{**known, **about})


def _ahead(cases: Sequence[Case], results: Results, language: str) -> str:
    found = judge.leads(cases, results)
    if not found:
        return text("none_ahead", language)
    head = [text(key, language) for key in ("case", "engine", "share")]
    return tables.markdown(head, tables.lead_rows(found, language))


def _misses(goal_results: Sequence[GoalResult], results: Results, language: str) -> Iterator[str]:
    missed = {each.case.name for each in goal_results if each.state == "missed"}
    if not missed:
        yield text("no_misses", language)
    for case in sorted(missed):
        if case in TRIED:
            yield text("tried", language, case=case, about=pick(TRIED[case], language))
        if case in results.profiles:
            yield text("profile", language, case=case)
            yield "```\n" + "\n".join(results.profiles[case]) + "\n```"


def _rest(cases: Sequence[Case], results: Results, language: str) -> Iterator[str]:
    for case in cases:
        rows = tables.figure_rows(case, results, language) if STEP not in case.figures else []
        if rows:
            yield f"### {pick(case.title, language)}"
            yield pick(case.about, language)
            labels = [pick(figure.label, language) for figure in case.figures]
            yield tables.markdown([text("engine", language), *labels], rows)


def _reference(cases: Sequence[Case], results: Results, language: str) -> Iterator[str]:
    yield f"## {text('what', language)}"
    yield "\n".join(
        text(
            "described_case",
            language,
            name=case.name,
            title=pick(case.title, language),
            about=pick(case.about, language),
        )
        for case in cases
        if STEP in case.figures or case.kind == "none"
    )
    yield f"## {text('differently', language)}"
    yield "\n".join(
        text("described_engine", language, name=pick(NAMES[each], language), about=pick(DIFFERENTLY[each], language))
        for each in ENGINES
    )
    yield f"## {text('versions', language)}"
    known = [(each, results.versions[each]) for each in ENGINES if each in results.versions]
    rows = [[pick(NAMES[each], language), held.get(each, ""), held["torch"]] for each, held in known]
    yield tables.markdown([text("engine", language), text("version", language), "torch"], rows)
    yield f"## {text('again', language)}"
    yield text("again_about", language)
    yield _COMMANDS
