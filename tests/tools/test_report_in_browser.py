"""The page in a real browser; where Debian's Chromium is not installed these tests say so."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.messages import printable
from footplate.records import LocalVisBackend
from footplate.records.scalar_names import split_dataset
from footplate.tools.report import write_report
from footplate.tools.report_sweep import SweepSummary
from footplate.tools.runs import Run, Series, read_run
from footplate.visualization import LegendEntry, arrange_panels

pytestmark = [pytest.mark.slow]
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --allow-file-access-from-files"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed: the page is not tried in a browser")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in _FLAGS.split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as opened:
        yield opened


@pytest.fixture
def show(browser: Any, make_run: Callable[..., Run], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page of runs, and looks in the end that it wrote nothing to the console and asked for no address."""

    def show(*runs: Run, width: int = 1200, sweep: SweepSummary | None = None) -> Any:
        write_report(runs, str(tmp_path / "report.html"), sweep=sweep)
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(f"file://{tmp_path}/report.html")
        browser.execute_script("localStorage.clear()")
        return browser

    yield show
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    asked = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert asked
    assert not [message for message in asked if '"url":"http' in message]


def range_of(page: Any, chart: int = 0) -> tuple[float, float]:
    """Returns the iterations that a chart shows."""
    low, high = page.execute_script(f"const {{ from, to }} = window.footplate.charts[{chart}].scale; return [from, to]")
    return low, high


def keys(page: Any, selector: str, *typed: str) -> None:
    page.find_element("css selector", selector).send_keys(*typed)


def text_of(page: Any, selector: str) -> str:
    """Returns the text of an element as a reader sees it, on one line."""
    return " ".join(page.find_element("css selector", selector).text.split())


def test_first_screen_answers_what_a_reader_asks(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    shown = text_of(page, ".hero")
    assert "mIoU best of 4 validations 41.00 +30.00 since the first validation at iteration 400 of 400" in shown
    assert "Overfitting No sign in mIoU loss not validated. At the end, the mIoU is at its best." in shown
    assert "Training time 40 s 0.1 s per iteration" in shown
    titles = [text_of(page, f".main-charts .chart:nth-child({place}) h3") for place in (1, 2)]
    assert titles == ["mIoU", "Loss training"]
    bottom = page.execute_script("return document.querySelector('.main-charts').getBoundingClientRect().bottom")
    assert bottom < 800


def test_command_of_the_best_checkpoint_is_shown(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    run = make_run()
    file = run.folder / "best_mIoU_iter_400.pth"
    file.write_bytes(bytes(2000))
    page = show(run._replace(checkpoints=[file]))
    assert text_of(page, ".command") == f"Use the best checkpoint2.0 kB footplate predict {file} IMAGES Copy"


def test_dragging_zooms_all_charts_and_a_double_click_shows_the_whole_run(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    from selenium.webdriver import ActionChains

    page = show(make_run())
    plot = page.find_element("css selector", ".plot")
    ActionChains(page).move_to_element_with_offset(plot, -60, 0).click_and_hold().move_by_offset(
        90, 0
    ).release().perform()
    zoomed = range_of(page)
    assert 10 < zoomed[0] < zoomed[1] < 400
    assert range_of(page, 1) == zoomed
    ActionChains(page).double_click(plot).perform()
    assert range_of(page, 1) == (0, 400)


def test_pointer_shows_the_values_of_the_nearest_iteration(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    from selenium.webdriver import ActionChains

    page = show(make_run("a"), make_run("b", lr=0.2))
    plot = page.find_element("css selector", ".plot")
    ActionChains(page).move_to_element(plot).perform()
    assert text_of(page, "#tip") == "iteration 200 b 22 a 21"


def test_smoothing_adds_a_smooth_curve(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    loss = ".main-charts .chart:nth-child(2) path.line"
    assert len(page.find_elements("css selector", loss)) == 1
    page.execute_script(
        "const s = document.getElementById('smoothing'); s.value = 0.9; s.dispatchEvent(new Event('input'))"
    )
    raw, smooth = (path.get_attribute("d") for path in page.find_elements("css selector", loss))
    heights = [[float(point.split()[1]) for point in path.replace("M", "L").split("L")[1:]] for path in (raw, smooth)]
    assert 0 < max(heights[1]) - min(heights[1]) < max(heights[0]) - min(heights[0])


def test_classes_are_drawn_as_lines_when_they_are_asked_for(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    run = make_run()
    tables = [run.per_class[0]._replace(step=step) for step in (100, 200, 400)]
    page = show(run._replace(per_class=tables))
    page.execute_script("document.getElementById('metrics').scrollIntoView()")
    assert page.find_elements("css selector", "path.thin") == []
    button = page.find_element("css selector", ".classes-of")
    assert button.text == "2 classes"
    page.execute_script("arguments[0].click()", button)
    time.sleep(0.3)
    assert len(page.find_elements("css selector", ".wide path.thin")) == 2
    page.execute_script("document.querySelector('.wide .head button').click()")
    assert page.find_elements("css selector", ".wide") == []


def test_the_slider_shows_images_over_time_by_keyboard(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    shown = page.find_element("css selector", "#pictures .controls output")
    before = page.find_element("css selector", "#gallery img").get_attribute("src")
    assert shown.text == "iteration 200"
    keys(page, "#pictures input", "\ue012")  # the left arrow
    assert shown.text == "iteration 100"
    assert page.find_element("css selector", "#gallery img").get_attribute("src") != before


def test_panels_that_are_the_same_in_all_runs_are_shown_once(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    runs = [make_run("a"), make_run("b")]
    legend = [LegendEntry((200, 0, 0), "bag")]
    for number, run in enumerate(runs):
        panels = {"image": np.zeros((64, 64, 3), np.uint8), "prediction": np.full((64, 64, 3), 90 + number, np.uint8)}
        for image in run.images:
            LocalVisBackend(str(image.path.parents[1])).add_image("val_3", arrange_panels(panels, legend), image.step)
    page = show(*runs)
    panels_shown = [each.text for each in page.find_elements("css selector", "#gallery .panel")]
    assert panels_shown == ["image", "prediction", "prediction"]
    assert text_of(page, "#gallery .legend") == "bag"
    assert page.execute_script("return [...document.querySelectorAll('#gallery img')].every((e) => e.naturalWidth)")


def test_charts_are_moved_by_keyboard(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    keys(page, ".chart", "+")
    low, high = range_of(page)
    assert (low, high) == (100, 300)
    keys(page, ".chart", "\ue014")  # the right arrow
    assert range_of(page)[0] > low
    keys(page, ".chart", "0")
    assert range_of(page) == (0, 400)
    assert page.execute_script("return [...document.querySelectorAll('.chart')].every((c) => c.tabIndex === 0)")


def test_theme_is_chosen_and_kept(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(paper)
    keys(page, "#theme", "\ue007")  # enter
    dark = page.execute_script(paper)
    assert (light, dark) == ("rgb(245, 246, 248)", "rgb(15, 18, 24)")
    assert text_of(page, "#theme") == "Light theme"  # the one that it switches to
    page.refresh()
    assert page.execute_script(paper) == dark


def test_runs_are_compared(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run("a"), make_run("b", lr=0.2))
    rows = [row.text.split() for row in page.find_elements("css selector", "#figures tbody tr")]
    assert [row[:4] for row in rows] == [["b", "42.00", "–", "400"], ["a", "41.00", "−1.00", "400"]]
    assert (
        text_of(page, ".lead") == "mIoU best of 4 validations 42.00 +1.00 vs. a within the noise of the validations b, "
        "at iteration 400 of 400 · still improving at the end"
    )
    assert "lr\n  - 0.2" in page.find_element("css selector", "#config pre").text
    assert len(page.find_elements("css selector", ".main-charts .chart:first-child path.line")) == 2
    heads = [cell.text for cell in page.find_elements("css selector", "#classes thead th")]
    assert heads == ["class", "b", "a", "b − a"]


def two_runs(make_run: Callable[..., Run], first: Sequence[float], second: Sequence[float]) -> list[Run]:
    runs = []
    for name, values in (("a", first), ("b", second)):
        points = [(100.0 * place, value) for place, value in enumerate(values, start=1)]
        run = make_run(name)
        runs.append(
            run._replace(series=[each._replace(points=points) if each.name == "mIoU" else each for each in run.series])
        )
    return runs


def test_differences_agree_with_the_values_that_are_shown(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    runs = two_runs(make_run, (8.0, 8.85, 8.8784), (8.0, 9.0, 9.0196))
    for run, value in zip(runs, (53.004, 53.006), strict=True):
        run.per_class[0].rows[:] = [["shoe", value, 50.5]]
    page = show(*runs)
    rows = [row.text.split()[:3] for row in page.find_elements("css selector", "#figures tbody tr")]
    assert rows == [["b", "9.020", "–"], ["a", "8.878", "−0.142"]]
    assert "+0.142 vs. a b" in text_of(page, ".lead")  # the last steps are smaller: 0.0284 and 0.0196
    assert page.find_elements("css selector", ".change .good")
    assert text_of(page, "#classes tbody tr") == "shoe 53.01 53.00 +0.01"
    assert page.find_elements("css selector", "#classes td.gain")
    height, plot = page.execute_script(
        "const { bottom, toY } = window.footplate.charts[0].scale; return [toY(8) - toY(10), bottom - 24]"
    )
    assert 0.7 * plot < height < plot  # two points of a percentage fill the chart


def test_difference_within_the_last_step_is_noise(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(*two_runs(make_run, (8.0, 8.5, 8.878), (8.0, 8.7, 9.02)))
    assert "within the noise of the validations" in text_of(page, ".change")
    assert not page.find_elements("css selector", ".change .good")
    assert text_of(page, "#figures tbody tr:nth-child(2) .unknown") == "−0.142"


def test_worse_run_with_the_lower_validation_loss_is_named(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    runs = two_runs(make_run, (8.0, 8.5, 8.9), (8.0, 8.7, 9.3))
    for run, loss in zip(runs, (1.1705, 1.861), strict=True):
        run.series.append(Series("loss", "val", [(100.0, 3.0), (200.0, 2.0), (300.0, loss)]))
    page = show(*runs)
    assert text_of(page, ".lead").endswith("Lower validation loss: a, 1.171 vs. 1.861")
    assert [cell.text for cell in page.find_elements("css selector", "#figures .good")] == ["no sign", "no sign"]
    assert "Lower" not in text_of(show(*runs[:1]), ".lead")


def test_config_is_searched(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run()._replace(explained="lr = 0.1  # a.py:7\nsteps = 3  # a.py:8\n"))
    page.execute_script("document.querySelector('#config details').open = true")
    time.sleep(0.2)
    keys(page, "#config input", "STEP")
    assert text_of(page, "#config pre") == "steps = 3 # a.py:8"
    assert text_of(page, "#config output") == "1 of 2 lines"


def test_validation_sets_are_shown_by_name(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    run = make_run()
    metric = next(series for series in run.series if series.name == "mIoU")
    lower = [(at, value / 2) for at, value in metric.points]
    sets = [metric._replace(name="day/mIoU"), metric._replace(name="night/mIoU", points=lower)]
    table = run.per_class[0]
    tables = [table._replace(dataset="day"), table._replace(dataset="night")]
    page = show(run._replace(series=[*run.series[:2], *sets], per_class=tables))
    assert text_of(page, ".sets") == "At iteration 400: day 41.00 night 20.50"
    legend = [entry.text for entry in page.find_elements("css selector", ".main-charts .chart:first-child .legend li")]
    assert legend == ["day", "night"]
    lasts = page.find_elements("css selector", ".main-charts .chart:first-child .mark.last text")
    assert [each.text for each in lasts] == ["day 41.00", "night 20.50"]
    ticks = page.find_elements("css selector", ".main-charts .chart:first-child .grid text[text-anchor=middle]")
    assert [each.text for each in ticks] == ["0", "iteration 200", "400"]
    assert [each.text for each in page.find_elements("css selector", "#metrics h3.set")] == [
        "Validation: day",
        "Validation: night",
    ]
    assert [each.text for each in page.find_elements("css selector", "#classes h3")] == [
        "day: IoU at iteration 400",
        "night: IoU at iteration 400",
    ]


def test_class_table_shows_the_best_and_the_last_validation(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    run = make_run()
    metric = next(series for series in run.series if series.name == "mIoU")
    worse = metric._replace(points=[(100.0, 1.0), (300.0, 9.0), (400.0, 3.0)])
    best = run.per_class[0]._replace(step=300, rows=[["bag", 9.5, 9.0]])
    last = run.per_class[0]._replace(rows=[["bag", 3.5, 3.0]])
    series = [worse if each is metric else each for each in run.series]
    page = show(run._replace(series=series, per_class=[best, last]))
    assert text_of(page, "#classes h3") == "IoU at iteration 300"
    assert text_of(page, "#classes tbody tr") == "bag 9.50 9"
    keys(page, "#classes .choice button:nth-child(2)", "\ue007")
    assert text_of(page, "#classes h3") == "IoU at iteration 400"
    assert text_of(page, "#classes tbody tr") == "bag 3.50 3"


def test_sweep_page_shows_trials_parameters_and_the_best_command(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    study = pytest.importorskip("footplate.tools.sweep")
    trials = [
        study.TrialInfo(number, {"model.depth": depth, "optimizer.lr": rate}, state, score, "", "")
        for number, depth, rate, state, score in (
            (4, "deep", 0.0123456, "complete", 41.0),
            (0, "flat", 0.1, "complete", 20.0),
            (2, "flat", 0.000101, "pruned", 10.0),
            (1, "flat", 5, "failed", None),
        )
    ]
    first = make_run("a")
    file = first.folder / "best_mIoU_iter_400.pth"
    file.write_bytes(bytes(2000))
    command = "footplate train a.py --set model.depth=deep optimizer.lr=0.0123456 x=1"
    page = show(
        first._replace(checkpoints=[file], series=[*first.series, Series("memory", "train", [(10.0, 500.0)])]),
        make_run("b"),
        sweep=SweepSummary("mIoU", trials, command),
    )
    assert [" ".join(each.text.split()) for each in page.find_elements("css selector", ".command")] == [
        f"Train with the best settings {command} Copy",
        f"Predict with the best trial2.0 kB footplate predict {file} IMAGES Copy",
    ]
    bold = [each.text for each in page.find_elements("css selector", ".command b")]
    assert bold == ["model.depth=deep", "optimizer.lr=0.0123456"]
    assert text_of(page, ".eyebrow") == "mIoU best of 4 trials"
    assert text_of(page, ".facts") == (
        "Best settings depth deep lr 1.23e−2 Trials 4 2 complete · 1 pruned · 1 failed "
        "Cost 1 min 20 s 500 MiB · the 2 best trials"
    )
    assert text_of(page, ".importance") == "2 complete trials are too few to say which parameter matters."
    for card in page.find_elements("css selector", "#sweep > .charts > .card"):
        marks = [len(card.find_elements("css selector", f"{name}.trial")) for name in ("circle", "path")]
        assert marks == [2, 1]
        assert "mIoU" in [each.text for each in card.find_elements("css selector", "text")]
    assert len(page.find_elements("css selector", ".trial-line")) == 3
    assert [each.text for each in page.find_elements("css selector", ".parallel .best text")] == [
        "deep",
        "1.23e−2",
        "41.00",
    ]
    rows = [" ".join(row.text.split()) for row in page.find_elements("css selector", "#sweep tbody tr")]
    assert (len(rows), rows[0], rows[2]) == (4, "4 41.00 deep 1.23e−2 complete", "2 10.00 flat 1.01e−4 pruned")
    assert text_of(page, "#config > .note") == "The configs are equivalent."


def test_many_runs_share_one_table_of_configs_and_one_line_per_warning(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    runs = [make_run(name, lr=lr) for name, lr in (("a", 0.1), ("b", 0.1234567), ("c", 0.1))]
    runs[1].warnings.append("2026/01/01 00:00:05 - footplate.optim - WARNING - the loss is large")
    runs[2].warnings[:] = [runs[0].warnings[0].replace("00:00:01", "07:30:59")]
    page = show(*runs)
    assert text_of(page, "#config table") == "Different b a c lr 0.1235 0.1 0.1"
    assert text_of(page, ".chip") == "2 warnings"
    assert [" ".join(each.text.split()) for each in page.find_elements("css selector", "#warnings :is(h3, pre)")] == [
        "All 3 runs",
        "footplate - WARNING - the disk is nearly full",
        "1 of 3 runs b",
        "footplate.optim - WARNING - the loss is large",
    ]


def test_values_near_the_largest_number_are_drawn(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    study = pytest.importorskip("footplate.tools.sweep")
    ends = [-1.7e308, 1.7e308, -1e308, 1e308]
    trials = [study.TrialInfo(place, {"lr": 0.1 * place}, "complete", each, "", "") for place, each in enumerate(ends)]
    points = [(100.0 * place, value) for place, value in enumerate(ends, start=1)]
    flat = [(at, 1.7e308) for at, _ in points]
    run = make_run()._replace(series=[Series("loss", "train", flat), Series("mIoU", "val", points)])
    page = show(run, make_run("other"), sweep=SweepSummary("mIoU", trials, "x"))
    attributes = page.execute_script(
        "return [...document.querySelectorAll('svg *')].flatMap((each) => [...each.attributes].map((a) => a.value))"
    )
    assert len(attributes) > 100
    assert not [each for each in attributes if "NaN" in each or "Infinity" in each]


def test_run_that_ends_without_finite_values_does_not_improve(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    run = make_run()
    series = [each._replace(last_nonfinite=500.0) if each.name == "mIoU" else each for each in run.series]
    page = show(run._replace(series=series))
    assert "still improving" not in text_of(page, ".lead")
    assert "Not finite The mIoU is not finite after iteration 400." in text_of(page, ".facts")


def test_page_without_images_explains_how_to_add_them(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run()._replace(images=[]))
    assert "With draw=True, the visualization hook draws" in page.find_element("css selector", "#pictures").text


def test_environment_shows_differences_first(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    runs = [
        make_run(name)._replace(environment={"python": "3.11", "torch": torch})
        for name, torch in (("a", "2.4"), ("b", "2.5"))
    ]
    tables = show(*runs).find_elements("css selector", "#environment table")
    assert [table.text.split() for table in tables] == [
        ["Different", "a", "b", "torch", "2.4", "2.5"],
        ["The", "same", "in", "all", "runs", "Value", "python", "3.11"],
    ]


def test_copied_numbers_have_hyphens_that_spreadsheets_read(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = show(make_run("a"), make_run("b", lr=0.2))
    copied = """
        getSelection().selectAllChildren(document.getElementById('figures'));
        const event = new ClipboardEvent('copy', { clipboardData: new DataTransfer(), cancelable: true });
        dispatchEvent(event);
        return event.clipboardData.getData('text/plain');
    """
    assert page.execute_script(copied).splitlines()[2].split("\t")[:3] == ["a", "41.00", "-1.00"]


def test_equal_columns_of_classes_are_one(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    run = make_run()
    rows: list[list[Any]] = [["bag", 20.0, 30.0, 30.0], ["shoe", 40.0, 50.0, 50.0]]
    page = show(
        run._replace(per_class=[run.per_class[0]._replace(columns=["class", "IoU", "Dice", "Fscore"], rows=rows)])
    )
    heads = [cell.text for cell in page.find_elements("css selector", "#classes thead th")]
    assert heads == ["class", "IoU", "Dice = Fscore"]
    same = run._replace(per_class=[run.per_class[0]._replace(columns=["class", "IoU", "Dice", "Fscore"], rows=rows)])
    tabs = show(same, same).find_elements("css selector", "#classes .choice button")
    assert [each.text for each in tabs] == ["IoU", "Dice = Fscore"]


def test_classes_are_sorted_by_clicking_the_header(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    first = "return document.querySelector('#classes tbody th').textContent"
    assert page.execute_script(first) == "T-shirt/top"
    keys(page, "#classes th.number button", "\ue007")
    assert page.execute_script(first) == "ankle boot"


def test_class_without_a_value_is_shown(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    rows: list[list[Any]] = [["bag", None, 22.5], ["shoe", 96.2, 0.0], ["shirt", 19.48, 100.0]]
    run = make_run()
    table = run.per_class[0]._replace(columns=["class", "Precision", "Recall"], rows=rows)
    run = run._replace(per_class=[table])
    page = show(run)
    cells = "return [...document.querySelectorAll('#classes tbody tr')].map((row) => row.innerText.split('\\t'))"
    assert page.execute_script(cells) == [
        ["bag", "–", "22.50"],
        ["shoe", "96.20", "0.00"],
        ["shirt", "19.48", "100.00"],
    ]
    assert page.find_element("css selector", "#classes h3").text == "IoU at iteration 400"
    for names in (["shoe", "shirt", "bag"], ["shirt", "shoe", "bag"]):  # what is no number stays below
        keys(page, "#classes th:nth-child(2) button", "\ue007")
        assert [row[0] for row in page.execute_script(cells)] == names


def test_last_points_of_sets_that_nearly_agree_have_labels_that_do_not_overlap(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    run = make_run()
    sets = [
        Series(f"{name}/mIoU", "val", [(100.0, 5.0), (400.0, last)])
        for name, last in (("day", 22.02), ("night", 22.11), ("a set with a long name", 5.0))
    ]
    page = show(run._replace(series=[*run.series[:2], *sets]), width=400)
    labels = page.find_elements("css selector", ".main-charts .chart:first-child .mark.last text")
    assert [each.text for each in labels] == ["night 22.11", "day 22.02", "5.000"]
    boxes = [each.rect for each in labels]
    assert all(one["y"] + 12 <= two["y"] for one, two in zip(boxes, boxes[1:], strict=False))
    assert all(box["x"] + box["width"] <= 400 for box in boxes)


def test_values_of_two_runs_align_on_a_phone_and_wide_tables_keep_their_first_column(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    runs = [make_run(name, lr=lr) for name, lr in (("a", 0.1), ("a run with a longer name", 0.2))]
    wide = ["class", *(f"a column with a long name {number}" for number in range(4))]
    for run in runs:
        run.per_class[0] = run.per_class[0]._replace(columns=wide, rows=[["bag", 1.5, 2.5, 3.5, 4.5]])
    page = show(*runs, width=400)
    rows = "[...document.querySelectorAll('#figures tbody tr')]"
    places = f"return {rows}.map((row) => [...row.children].map((c) => c.getBoundingClientRect().left))"
    first, second = page.execute_script(places)
    assert first == second
    page = show(runs[0], width=400)
    at = "return document.querySelector('#classes tbody th').getBoundingClientRect().left"
    before = page.execute_script(at)
    page.execute_script("document.querySelector('#classes .scroll').scrollLeft = 100")
    assert page.execute_script("return document.querySelector('#classes .scroll').scrollLeft") == 100
    assert page.execute_script(at) == before


def test_parallel_coordinates_fit_a_phone(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    study = pytest.importorskip("footplate.tools.sweep")
    trials = [
        study.TrialInfo(place, {"lr": 0.1 / (place + 1), "weight_decay": place}, "complete", 30.0 + place, "", "")
        for place in range(3)
    ]
    page = show(make_run(), width=400, sweep=SweepSummary("mIoU", trials, ""))
    boxes = "[...document.querySelectorAll('.parallel svg text')].map((e) => e.getBoundingClientRect())"
    outside = f"return {boxes}.filter((r) => r.left < 0 || r.right > 400).length"
    assert page.execute_script(outside) == 0
    assert page.execute_script(
        "const s = document.querySelector('.parallel .scroll'); return s.scrollWidth <= s.clientWidth"
    )


def test_page_fits_the_width_of_a_phone(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run("a"), make_run("b"), width=400)
    time.sleep(0.2)  # the charts take their new width after the next frame
    width, wide = page.execute_script(
        "return [document.documentElement.scrollWidth,"
        " [...document.querySelectorAll('.plot svg')].filter((u) => u.getBoundingClientRect().right > 400).length]"
    )
    assert (width, wide) == (400, 0)


def test_page_of_a_long_run_is_small_and_fast(
    show: Callable[..., Any], make_run: Callable[..., Run], tmp_path: Path
) -> None:
    page = show(make_run(lines=100_000, interval=1))
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    assert range_of(page) == (0, 100_000)
    assert page.execute_script("return performance.now()") < 5_000


def test_printed_page_has_no_buttons(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = page.execute_script("return getComputedStyle(document.getElementById('theme')).display")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == "none"


@pytest.mark.parametrize("text", ["<!--<script>", "</script><img src=x onerror=alert(1)>", "</style></title><u>"])
def test_text_that_looks_like_html_is_shown_as_text(
    show: Callable[..., Any], make_run: Callable[..., Run], text: str
) -> None:
    run = make_run("a")
    series = [each._replace(name=f"{each.name}{text}") for each in run.series]
    per_class = [run.per_class[0]._replace(rows=[[text, 1.0, 2.0]], dataset=text)]
    images = [each._replace(name=text) for each in run.images]
    hostile = run._replace(
        series=series, explained=text, warnings=[text], environment={text: text}, per_class=per_class, images=images
    )
    page = show(hostile, make_run("b"))
    # The other run has the scalars without the text: lr, loss, mIoU and time. Charts of one scalar, and the main ones.
    assert page.execute_script("return window.footplate.charts.length") == len(series) + len(run.series) + 1
    assert page.find_element("css selector", "#warnings pre").text == text
    assert page.execute_script("return document.querySelectorAll('main img[onerror], main u, main script').length") == 0


def _hostile_run(folder: Path, text: str) -> Run:
    """Returns a run whose files hold the text wherever a run may write one, read as the command reads it."""
    start = folder / "hostile" / "20260101_000000"
    (start / "vis_data/vis_image").mkdir(parents=True)
    lines: list[dict[str, Any]] = [
        {"lr": 0.1, "loss": 2.0, f"loss{text}": 1.0, "iter": 10, "step": 10},
        {"mIoU": 40.0, f"m{text}": 50.0, f"IoU.{text}": 60.0, "step": 10},
    ]
    (start / "vis_data/scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for form, written in ((".json", json.dumps({"classes": [text]})), (".py", f"classes = [{text!r}]\n")):
        (start / f"vis_data/config{form}").write_text(written)
    (start / "explained.txt").write_text(f"classes = [{text!r}]  # {text}.py:7\n")
    (start / "environment.json").write_text(json.dumps({text: text, "packages": {text: text}}))
    warning = {"time": "2026/01/01", "logger": "footplate", "level": "WARNING", "message": text}
    (start / "run.warnings.jsonl").write_text(json.dumps(warning) + "\n")
    names = {"mode": text, "dataset": text, "metric": text}
    table = {"step": 10, **names, "columns": [text, text], "rows": [[text, 53.59]]}
    (start / "vis_data/per_class.jsonl").write_text(json.dumps(table) + "\n")
    Image.new("RGB", (90, 30)).save(start / f"vis_data/vis_image/{text.replace('/', '')}_10.png")
    return read_run(folder / "hostile")


@pytest.mark.parametrize(
    "text",
    [
        "<!--<script>",
        "</script><script>window.executed = 1</script>",
        "]]><img src=x onerror=window.executed=1>",
        "a\u2028window.executed = 1\u2029//",
        "'\";window.executed=1;//${window.executed=1}`",
    ],
)
def test_a_run_with_hostile_text_in_all_of_its_files_is_shown_and_not_executed(
    show: Callable[..., Any], make_run: Callable[..., Run], tmp_path: Path, text: str
) -> None:
    page = show(_hostile_run(tmp_path, text), make_run("b"))
    shown = printable(text)
    titles = page.execute_script(
        "return [...document.querySelectorAll('.chart h3')].map((each) => each.firstChild.textContent)"
    )
    assert {f"loss{shown}", split_dataset(f"m{shown}")[1]} <= {*titles}
    assert page.execute_script("return document.querySelectorAll('#classes tbody tr').length") == 3
    assert page.execute_script("return document.querySelectorAll('#gallery figure img').length") == 2
    page.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    time.sleep(0.3)
    for place in ("#warnings", "#environment", "#config"):
        assert shown in page.find_element("css selector", place).get_attribute("textContent"), place
    assert page.execute_script("return window.executed") is None
    assert page.execute_script("return document.querySelectorAll('main script, main [onerror]').length") == 0


def test_scalar_may_be_named_like_a_property_of_objects(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    run = make_run("a")
    names = ("constructor", "__proto__", "toString")
    odd = run._replace(
        series=[
            Series(name, mode, [(10.0, float(place))]) for place, name in enumerate(names) for mode in ("train", "val")
        ],
        environment=dict.fromkeys(names, "x"),
    )
    page = show(odd, make_run("b"))
    titles = page.execute_script("return window.footplate.charts.map((chart) => chart.title)")
    assert {*names} <= {*titles}
    assert page.execute_script("return document.querySelectorAll('#environment tbody tr').length") == len(names) + 1
    assert page.execute_script("return document.getElementById('warnings').children.length") > 1
