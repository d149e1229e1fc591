"""The page of several runs in a real browser; skipped where Debian's Chromium is not installed."""

import json
from collections.abc import Sequence

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from footplate.tools.runs import Run
from tests.footplate.tools.conftest import MakeRun, Show, text_of, texts_of, with_values

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


def test_runs_are_compared(show: Show, make_run: MakeRun) -> None:
    page = show(make_run("a"), make_run("b", lr=0.2))
    rows = texts_of(page, "#figures tbody tr")
    assert [row.split()[:4] for row in rows] == [["b", "42.00", "–", "400"], ["a", "41.00", "−1.00", "400"]]
    assert (
        text_of(page, ".lead") == "mIoU best of 4 validations 42.00 +1.00 vs. a too few seeds to tell b, "
        "at iteration 400 of 400, best at the last validation"
    )
    assert text_of(page, ".title") == "2 variants, one seed each 1 warning"
    assert page.find_elements("css selector", ".good") == []
    assert text_of(page, "#config table") == "Different b a lr 0.2 0.1"
    assert len(page.find_elements("css selector", ".main-charts .chart:first-child path.line")) == 2
    assert texts_of(page, "#classes thead th") == ["class", "b", "a", "b − a"]
    assert text_of(page, "#warnings h3") == "Warning, in 2 of 2 runs"


def test_seeds_of_a_variant_are_one_row_and_one_band(show: Show, make_run: MakeRun) -> None:
    values = {"a0": 30, "a1": 32, "a2": 34, "b0": 40, "b1": 44, "b2": 48}
    page = show(
        *(
            with_values(make_run(name, lr=0.1 if name < "b" else 0.2), "mIoU", (9, value))
            for name, value in values.items()
        )
    )
    assert text_of(page, ".title") == "2 variants, 3 seeds each 1 warning"
    lead = "mIoU mean of 3 seeds, best of 2 validations 44.00 ± 4.00 +12.00 vs. a* every seed is better"
    assert text_of(page, ".lead") == f"{lead} b*, 3 seeds from 40.00 to 48.00"
    assert text_of(page, ".change .good") == "+12.00"
    rows = texts_of(page, "#figures tbody tr")
    assert [row.split(" 200 ")[0] for row in rows] == [
        "b* 3 seeds 44.00 ± 4.00",
        "b2 48.00",
        "b1 44.00",
        "b0 40.00",
        "a* 3 seeds 32.00 ± 2.00 −12.00",
        "a2 34.00",
        "a1 32.00",
        "a0 30.00",
    ]
    assert len(page.find_elements("css selector", ".main-charts .chart:first-child :is(path.line, path.band)")) == 4
    assert texts_of(page, "#classes thead th") == ["class", "b*", "a*", "b* − a*"]
    assert text_of(page, "#config table") == "Different b* a* lr 0.2 0.1"
    assert texts_of(page, "#config summary") == ["b* config of b2", "a* config of a2"]
    scores = page.find_elements("css selector", "#figures .score")
    assert scores[0].size["height"] < 1.5 * scores[1].size["height"]  # on one line
    borders = [score.value_of_css_property("border-bottom-style") for score in scores]
    assert borders == ["none", "none", "none", "solid"] + 4 * ["none"]  # between the variants


def test_shared_panels_are_as_high_as_the_panels_of_two_runs(show: Show, make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("b", lr=0.2)]
    boxes = [[name, 300 * place, 0, 300 * place + 300, 300] for place, name in enumerate(("image", "truth", "errors"))]
    for number, run in enumerate(runs):
        for image in run.images:
            page, texts = Image.new("RGB", (900, 300)), PngInfo()
            page.paste((50 * number, 90, 0), (600, 0, 900, 300))
            page.paste((0, 0, 90), (0, 0, 300, 300))
            texts.add_text("footplate-layout", json.dumps({"panels": boxes, "legend": []}))
            page.save(image.path, pnginfo=texts)
    shown = show(*runs)
    bounds = [element.rect for element in shown.find_elements("css selector", "#gallery .views > div")]
    assert len(bounds) == 2
    assert abs(bounds[0]["width"] - bounds[1]["width"]) < 2  # two panels one above the other next to one of each run
    tops = [element.rect["y"] for element in shown.find_elements("css selector", "#gallery .panel")]
    assert tops[0] == tops[2] < tops[1]


def test_images_of_two_runs_are_side_by_side_on_a_phone(show: Show, make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("b", lr=0.2)]
    for number, run in enumerate(runs):
        for image in run.images:
            page, texts = Image.new("RGB", (120, 30)), PngInfo()
            page.paste((50 * number, 90, 0), (60, 0, 120, 30))
            boxes = [[str(place), 30 * place, 0, 30 * place + 30, 30] for place in range(4)]
            texts.add_text("footplate-layout", json.dumps({"panels": boxes, "legend": []}))
            page.save(image.path, pnginfo=texts)
    shown = show(*runs, width=400)
    tops = [element.rect["y"] for element in shown.find_elements("css selector", "#gallery .panel")]
    assert tops[0] == tops[1] < tops[2] == tops[3] < tops[4] == tops[5]


def test_a_seed_that_is_running_is_named(show: Show, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate.tools.analysis.is_locked", lambda path: "/a2/" in path)
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


def test_values_of_other_iterations_are_marked(show: Show, make_run: MakeRun) -> None:
    from selenium.webdriver import ActionChains

    page = show(make_run("a"), with_values(make_run("b", lr=0.2), "mIoU", (20, 30, 50), interval=130))
    ActionChains(page).move_to_element(page.find_element("css selector", ".plot")).perform()
    assert text_of(page, "#tip") == "iteration 200 b 20 (at 130) a 21"


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
    assert rows == [["b", "9.020", "–", "300", "0", "400"], ["a", "8.878", "−0.142", "300", "1", "400"]]
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
    assert text_of(page, "#config table") == "Different c b a lr 0.3 0.1235 0.1"
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
