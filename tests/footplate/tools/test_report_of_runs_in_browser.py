"""The page of several runs in a real browser; skipped where Debian's Chromium is not installed."""

from collections.abc import Sequence

import pytest

from footplate.tools.runs import Run
from tests.footplate.tools.conftest import MakeRun, Show, text_of, texts_of, with_values

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


def test_runs_are_compared(show: Show, make_run: MakeRun) -> None:
    page = show(make_run("a"), make_run("b", lr=0.2))
    rows = texts_of(page, "#figures tbody tr")
    assert texts_of(page, "#figures thead th")[:4] == ["Run", "mIoU", "vs. best", "lr"]
    assert [row.split()[:5] for row in rows] == [
        ["b", "42.00", "–", "0.2", "400"],
        ["a", "41.00", "−1.00", "0.1", "400"],
    ]
    assert (
        text_of(page, ".lead") == "mIoU best of 4 validations 42.00 +1.00 vs. a too few seeds to tell b, "
        "at iteration 400 of 400, in the last validation"
    )
    assert text_of(page, ".title") == "2 variants, one seed each 1 warning"
    assert page.find_elements("css selector", ".good") == []
    assert text_of(page, "#config table") == "Different b a lr 0.2 0.1"
    assert len(page.find_elements("css selector", ".main-charts .chart:first-child path.line")) == 2
    assert texts_of(page, "#classes thead th") == ["class", "b", "a", "b − a"]
    assert text_of(page, "#warnings h3") == "Warning, in 2 of 2 runs"


def test_a_seed_that_is_running_is_named(show: Show, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate.tools.run_facts.is_locked", lambda path: "/a2/" in path)
    runs = [make_run(name) for name in ("a0", "a1", "a2", "b0", "b1", "b2")]
    for place, run in enumerate(runs[:3]):
        run.checkpoints[run.folder / f"best_mIoU_iter_{place}.pth"] = 1
    runs = [with_values(run, "mIoU", (9, 50 - place)) for place, run in enumerate(runs)]
    runs = [run._replace(config=runs[3].config) if run.folder.name < "b" else run for run in runs]
    page = show(*runs)
    assert text_of(page, ".title") == "one variant, 6 seeds, 1 running 1 warning"
    assert texts_of(page, ".main-charts .chart:first-child .mark") == ["a2, running"]
    assert len(page.find_elements("css selector", ".main-charts .chart:first-child .line.partial")) == 1
    assert text_of(page, ".command > span").startswith("Use the best checkpoint of a0 the best complete run of ")
    assert "; ± is their standard deviation" in text_of(page, ".lead")
    assert "vs. best" not in texts_of(page, "#figures thead th")


def test_classes_of_several_iterations_are_explained(show: Show, make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("b", lr=0.2)]
    runs[0].per_class[0] = runs[0].per_class[0]._replace(step=300)
    page = show(*runs)
    assert text_of(page, "#classes h3").endswith(" iteration of each run")
    page.find_element("css selector", ".classes-of").click()
    wide, other = page.find_elements("css selector", ".main-charts .chart")
    assert wide.size["width"] > 1.5 * other.size["width"]


def two_runs(make_run: MakeRun, first: Sequence[float], second: Sequence[float]) -> list[Run]:
    runs = [with_values(make_run("a"), "mIoU", first), with_values(make_run("b", lr=0.2), "mIoU", second)]
    return [run._replace(environment={"python": "3.11"}) for run in runs]


def test_differences_agree_with_the_values_that_are_shown(show: Show, make_run: MakeRun) -> None:
    runs = two_runs(make_run, (8.0, 8.85, 8.8784), (8.0, 9.0, 9.0196))
    for run, value, other in zip(runs, (53.004, 53.006), (0.0, 1.0), strict=True):
        run.per_class[0].rows[:] = [["shoe", value, 50.5], ["bag", other, 50.5]]
    page = show(*runs)
    rows = [row.text.split()[:6] for row in page.find_elements("css selector", "#figures tbody tr")]
    assert rows == [["b", "9.020", "–", "0.2", "300", "0"], ["a", "8.878", "−0.142", "0.1", "300", "1"]]
    assert "+0.142 vs. a too" in text_of(page, ".lead")
    assert text_of(page, "#classes tbody tr") == "shoe 53.01 53.00 +0.01"
    assert page.find_elements("css selector", "#classes td.gain")
    height, plot = page.execute_script(
        "const { bottom, toY } = window.footplate.charts[0].scale; return [toY(8) - toY(10), bottom - 24]"
    )
    assert 0.7 * plot < height < plot  # two points of a percentage fill the chart


def test_many_runs_share_one_table_of_configs_and_one_line_per_warning(show: Show, make_run: MakeRun) -> None:
    runs = [make_run(name, lr=lr) for name, lr in (("a", 0.1), ("b", 0.1234567), ("c", 0.3))]
    runs[1].warnings.append("2026/01/01 00:00:05 - footplate.optim - WARNING - the loss is large")
    runs[2].warnings[:] = [runs[0].warnings[0].replace("00:00:01", "07:30:59")]
    page = show(*runs)
    assert text_of(page, "#config table") == "Different c b a lr 0.3 0.1234567 0.1"
    assert text_of(page, ".chip") == "2 warnings"
    assert texts_of(page, "#warnings :is(h3, pre)") == [
        "Warning, in 3 of 3 runs",
        "the disk is nearly full",
        "Warning, in 1 of 3 runs b",
        "the loss is large",
    ]


def test_warnings_that_differ_in_numbers_and_lists_are_one(show: Show, make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("b", lr=0.2)]
    start = "2026/01/01 00:00:05 - footplate.vision - WARNING - "
    for run, names in zip(runs, (["bag", "boot"], ["coat"]), strict=True):
        text = f"the metric excludes {len(names)} of 3 classes: {', '.join(names)}. To count them, set a key."
        run.warnings[:] = [start + text, *(f"{start}the {kind} is {place}" for place, kind in enumerate("xyz"))]
    page = show(*runs)
    assert text_of(page, ".chip") == "4 warnings"
    assert texts_of(page, "#warnings > :is(h3, pre, details)") == [
        "Warning, in 2 of 2 runs",
        "the metric excludes 1 of 3 classes: coat. To count them, set a key.",
        "1 more like this",
        "Warning, in 2 of 2 runs",
        "the x is 0",
        "Warning, in 2 of 2 runs",
        "the y is 1",
        "1 more",
    ]
