"""The page of several runs in a real browser; skipped where Debian's Chromium is not installed."""

from collections.abc import Sequence

import pytest

from footplate.tools.runs import Run
from tests.footplate.tools.conftest import MakeRun, Show, text_of, texts_of, with_values

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


def test_runs_are_compared(show: Show, make_run: MakeRun) -> None:
    page = show(make_run("a"), make_run("b", lr=0.2))
    rows = texts_of(page, "#figures tbody tr")
    assert [row.split()[:4] for row in rows] == [["b", "42.00", "–", "400"], ["a", "41.00", "−1.00", "400"]]
    assert (
        text_of(page, ".lead") == "mIoU best of 4 validations 42.00 +1.00 vs. a b, "
        "at iteration 400 of 400 · still improving"
    )
    assert text_of(page, "#config table") == "Different b a lr 0.2 0.1"
    assert len(page.find_elements("css selector", ".main-charts .chart:first-child path.line")) == 2
    assert texts_of(page, "#classes thead th") == ["class", "b", "a", "b − a"]
    assert text_of(page, "#warnings h3") == "Warning, both runs"


def two_runs(make_run: MakeRun, first: Sequence[float], second: Sequence[float]) -> list[Run]:
    return [with_values(make_run(name), "mIoU", values) for name, values in (("a", first), ("b", second))]


def test_differences_agree_with_the_values_that_are_shown(show: Show, make_run: MakeRun) -> None:
    runs = two_runs(make_run, (8.0, 8.85, 8.8784), (8.0, 9.0, 9.0196))
    for run, value, other in zip(runs, (53.004, 53.006), (0.0, 1.0), strict=True):
        run.per_class[0].rows[:] = [["shoe", value, 50.5], ["bag", other, 50.5]]
    page = show(*runs)
    rows = [row.text.split()[:6] for row in page.find_elements("css selector", "#figures tbody tr")]
    assert rows == [["b", "9.020", "–", "300", "no", "sign"], ["a", "8.878", "1", "at", "zero", "−0.142"]]
    assert "+0.142 vs. a b" in text_of(page, ".lead")  # the last steps are smaller: 0.0284 and 0.0196
    assert page.find_elements("css selector", ".change .good")
    assert text_of(page, "#classes tbody tr") == "shoe 53.01 53.00 +0.01"
    assert page.find_elements("css selector", "#classes td.gain")
    height, plot = page.execute_script(
        "const { bottom, toY } = window.footplate.charts[0].scale; return [toY(8) - toY(10), bottom - 24]"
    )
    assert 0.7 * plot < height < plot  # two points of a percentage fill the chart


def test_many_runs_share_one_table_of_configs_and_one_line_per_warning(show: Show, make_run: MakeRun) -> None:
    runs = [make_run(name, lr=lr) for name, lr in (("a", 0.1), ("b", 0.1234567), ("c", 0.1))]
    runs[1].warnings.append("2026/01/01 00:00:05 - footplate.optim - WARNING - the loss is large")
    runs[2].warnings[:] = [runs[0].warnings[0].replace("00:00:01", "07:30:59")]
    page = show(*runs)
    assert text_of(page, "#config table") == "Different b a c lr 0.1235 0.1 0.1"
    assert text_of(page, ".chip") == "2 warnings"
    assert texts_of(page, "#warnings :is(h3, pre)") == [
        "Warning, all 3 runs",
        "the disk is nearly full",
        "Warning, 1 of 3 runs b",
        "the loss is large",
    ]
