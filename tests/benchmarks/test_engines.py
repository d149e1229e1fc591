"""The comparison with other engines: it measures, judges and writes its page."""

import dataclasses
import importlib.metadata
import json
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks.engines import page
from benchmarks.engines.__main__ import LISTS
from benchmarks.engines.cases import CASES
from benchmarks.engines.judge import judge
from benchmarks.engines.remarks import OPEN_ON_GPU
from benchmarks.engines.results import Results
from benchmarks.engines.run import Plan, Runner
from benchmarks.engines.stamps import Stamps
from benchmarks.environments import ROOT

STEADY = {"bare": 200.0, "footplate": 205.0, "ignite": 212.0, "mmengine": 340.0}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results.json")


def fill(results: Results, case: str, figures: dict[str, float], *, rounds: int = 3, **others: float) -> None:
    """Puts figures `us` of several engines, a little apart from round to round; footplate has `others` besides."""
    for number in range(rounds):
        for engine, value in figures.items():
            found = {"us": value * (1 + number / 1000), **(others if engine == "footplate" else {})}
            results.add(case, engine, number, {"figures": found, "versions": {"torch": "2.13.0", "python": "3.11"}})


def test_results_are_invalid_after_a_change_of_the_sources(results: Results) -> None:
    fill(results, "tiny", STEADY)
    again = Results(results.path)
    assert again.has("tiny", "ignite", 2)
    assert not again.has("tiny", "ignite", 3)
    held = json.loads(results.path.read_text())
    held["about"]["sources"] = "others"
    results.path.write_text(json.dumps(held))
    assert Results(results.path, keep=True).has("tiny", "ignite", 2)
    assert not Results(results.path).has("tiny", "ignite", 2)
    assert results.path.with_name("results.json.old").is_file()


def test_page_shows_missed_goals_and_faster_engines(results: Results, tmp_path: Path) -> None:
    fill(results, "norms", STEADY)
    fill(results, "tiny", {**STEADY, "footplate": 230.0})
    results.profiles["tiny"] = ["  300  0.1  slow.py:3(slow)"]
    english, picture = page.write(list(CASES.values()), results, tmp_path)
    text = english.read_text(encoding="utf-8")
    head, _, rest = text.partition("## Goals")
    assert "| Tiny model | ignite | 0.922 (0.922–0.922) (rounds: 3) |" in head
    assert "| Tiny model | at most 15 us slower than the bare loop | 30.0 (30.0–30.0) us | **missed** |" in rest
    assert "slow.py:3(slow)" in rest
    goals = rest.partition("###")[0]
    assert goals.rindex("**missed**") < min(goals.index("| met |"), goals.index("| open |"))
    drawn = picture.read_text(encoding="utf-8")
    assert drawn.count("<circle") == 6 + 2 * 3  # the legend, and what was measured
    assert ">Tiny model</text>" in drawn


def test_page_names_a_command_for_each_open_row(results: Results, tmp_path: Path) -> None:
    pages = [page.write(list(CASES.values()), results, tmp_path)[0], ROOT / "docs" / "performance.md"]
    texts = [path.read_text(encoding="utf-8") for path in pages]
    for _, command in OPEN_ON_GPU:
        assert all(f"| `{command}` |" in text for text in texts), command


def test_stamps_give_the_median_of_blocks() -> None:
    stamps = Stamps(500)
    for _ in range(400):
        stamps()
    for at in range(400):
        stamps.times[at] = at * 1e-4 + (0.5 if at >= 310 else 0.0)  # one block holds a long wait
    assert stamps.block_us(50, 400, 50) == pytest.approx(100.0)
    assert stamps.lasted(0, 399) == pytest.approx(0.5399)


@pytest.mark.slow
def test_benchmark_measures_the_engines(results: Results) -> None:
    case = dataclasses.replace(CASES["tiny"], engines=("bare", "footplate", "missing"))
    plan = Plan([case], ["bare", "footplate", "missing"], rounds=1, quick=True)
    Runner(plan, results, lambda _: Path(sys.executable)).run()
    assert list(results.errors) == ["tiny, missing"]
    assert "benchmarks.engines.drivers.missing" in results.errors["tiny, missing"]
    for engine in ("bare", "footplate"):
        assert 10 < results.by_round("tiny", engine, "us")[0] < 10**6
    assert judge([CASES["tiny"]], results)[0].spread is not None


def test_environment_of_footplate_has_its_dependencies() -> None:
    listed = {
        line.partition("==")[0].lower().replace("_", "-") for line in (LISTS / "footplate.txt").read_text().split()
    }
    required = map(Requirement, importlib.metadata.requires("footplate") or ())
    names = {each.name.lower() for each in required if each.marker is None}
    assert {name.replace("_", "-") for name in names} <= listed
