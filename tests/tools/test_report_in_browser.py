"""The page in a real browser; where Debian's Chromium is not installed these tests say so."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from footplate.messages import printable
from footplate.tools.report import write_report
from footplate.tools.runs import Run, read_run

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

    def show(*runs: Run, width: int = 1200) -> Any:
        write_report(runs, str(tmp_path / "report.html"))
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
    """The iterations that a chart shows, read from its axis by the place of the cursor."""
    low, high = page.execute_script(
        f"return window.footplate.plots[{chart}].plot.scales.x && "
        f"[window.footplate.plots[{chart}].plot.scales.x.min, window.footplate.plots[{chart}].plot.scales.x.max]"
    )
    return low, high


def keys(page: Any, selector: str, *typed: str) -> None:
    page.find_element("css selector", selector).send_keys(*typed)


def test_dragging_zooms_all_charts_and_a_double_click_shows_the_whole_run(
    show: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    from selenium.webdriver import ActionChains

    page = show(make_run())
    over = page.find_element("css selector", ".u-over")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", over)
    ActionChains(page).move_to_element_with_offset(over, -60, 0).click_and_hold().move_by_offset(
        90, 0
    ).release().perform()
    zoomed = range_of(page)
    assert 10 < zoomed[0] < zoomed[1] < 400
    assert range_of(page, 1) == zoomed
    ActionChains(page).double_click(over).perform()
    assert range_of(page, 1) == (10, 400)


def test_smoothing_adds_a_smooth_curve(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    script = "return window.footplate.plots[1].plot.data.map((column) => Math.max(...column) - Math.min(...column))"
    assert len(page.execute_script(script)) == 2
    page.execute_script(
        "const s = document.getElementById('smoothing'); s.value = 0.9; s.dispatchEvent(new Event('input'))"
    )
    _, raw, smooth = page.execute_script(script)
    assert 0 < smooth < raw


def test_the_slider_shows_images_over_time_by_keyboard(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    shown = page.find_element("css selector", "figure output")
    before = page.find_element("css selector", "figure img").get_attribute("src")
    assert shown.text == "200"
    keys(page, "figure input", "\ue012")  # the left arrow
    assert shown.text == "100"
    assert page.find_element("css selector", "figure img").get_attribute("src") != before


def test_charts_are_moved_by_keyboard(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    keys(page, ".chart", "+")
    low, high = range_of(page)
    assert (low, high) == (107.5, 302.5)
    keys(page, ".chart", "\ue014")  # the right arrow
    assert range_of(page)[0] > low
    keys(page, ".chart", "0")
    assert range_of(page) == (10, 400)
    assert page.execute_script("return [...document.querySelectorAll('.chart')].every((c) => c.tabIndex === 0)")


def test_theme_is_chosen_and_kept(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(paper)
    keys(page, "#theme", "\ue007")  # enter
    dark = page.execute_script(paper)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(18, 22, 28)")
    page.refresh()
    assert page.execute_script(paper) == dark


def test_runs_are_compared(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run("a"), make_run("b", lr=0.2))
    heads = [cell.text for cell in page.find_elements("css selector", "#figures thead th")]
    assert heads == ["", "a", "b"]
    assert page.find_element("css selector", "#figures td.best").text.startswith("42 at 400")
    assert "lr\n  - 0.1" in page.find_element("css selector", "#configs pre").text
    assert len(page.find_elements("css selector", ".chart:first-child .u-series")) == 3


def test_page_without_images_explains_how_to_add_them(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run()._replace(images=[]))
    assert "With draw=True, the visualization hook draws" in page.find_element("css selector", "#images").text


def test_classes_are_sorted_by_clicking_the_header(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    first = "return document.querySelector('#class-tables tbody th').textContent"
    assert page.execute_script(first) == "T-shirt/top"
    keys(page, "#class-tables th.number button", "\ue007")
    assert page.execute_script(first) == "ankle boot"


def test_class_without_a_value_is_shown(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    rows: list[list[Any]] = [["bag", None, 22.5], ["shoe", 96.2, 0.0], ["shirt", 19.48, 100.0]]
    run = make_run()
    table = run.per_class[0]._replace(columns=["class", "Precision", "Recall"], rows=rows)
    run = run._replace(per_class=[table])
    page = show(run)
    cells = "return [...document.querySelectorAll('#class-tables tbody tr')].map((row) => row.innerText.split('\\t'))"
    assert page.execute_script(cells) == [
        ["bag", "–", "22.50"],
        ["shoe", "96.20", "0.00"],
        ["shirt", "19.48", "100.00"],
    ]
    assert page.find_element("css selector", "#class-tables h3").text == "first: IoU at iteration 400"
    assert "iteration 200" in page.find_element("css selector", "#gallery figcaption").text
    for names in (["shoe", "shirt", "bag"], ["shirt", "shoe", "bag"]):  # what is no number stays below
        keys(page, "#class-tables th:nth-child(2) button", "\ue007")
        assert [row[0] for row in page.execute_script(cells)] == names


def test_page_fits_the_width_of_a_phone(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run("a"), make_run("b"), width=400)
    time.sleep(0.2)  # the charts take their new width after the next frame
    width, wide = page.execute_script(
        "return [document.documentElement.scrollWidth,"
        " [...document.querySelectorAll('.uplot')].filter((u) => u.getBoundingClientRect().right > 400).length]"
    )
    assert (width, wide) == (400, 0)


def test_page_of_a_long_run_is_small_and_fast(
    show: Callable[..., Any], make_run: Callable[..., Run], tmp_path: Path
) -> None:
    page = show(make_run(lines=100_000, interval=1))
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    assert range_of(page) == (1, 100_000)


def test_printed_page_has_no_buttons(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = show(make_run())
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = page.execute_script("return getComputedStyle(document.getElementById('theme')).display")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == "none"


@pytest.mark.parametrize("text", ["<!--<script>", "</script><img src=x onerror=alert(1)>", "</style></title><b>"])
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
    assert page.execute_script("return document.querySelectorAll('.chart').length") == len(series) + len(run.series)
    assert page.find_element("css selector", "#warnings pre").text == text
    assert page.execute_script("return document.querySelectorAll('main img[onerror], main b, main script').length") == 0


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
    names = "return [...document.querySelectorAll('#figures tbody th')].map((th) => th.textContent)"
    shown = printable(text)
    assert {f"last loss{shown}", f"best m{shown}"} <= {*page.execute_script(names)}
    # lr, loss, mIoU, the time of the other run, and the three of hostile names.
    assert page.execute_script("return document.querySelectorAll('.chart canvas').length") == 7
    assert page.execute_script("return document.querySelectorAll('#class-tables tbody tr').length") == 3
    assert page.execute_script("return document.querySelectorAll('#gallery figure img').length") == 2
    for place in ("#warnings", "#environment", "#configs"):
        assert shown in page.find_element("css selector", place).get_attribute("textContent"), place
    assert page.execute_script("return window.executed") is None
    assert page.execute_script("return document.querySelectorAll('main script, main [onerror]').length") == 0


def test_scalar_may_be_named_like_a_property_of_objects(show: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    run = make_run("a")
    names = ("constructor", "__proto__", "toString")
    odd = run._replace(
        series=[run.series[0]._replace(name=name, mode=mode) for name in names for mode in ("train", "val")],
        environment=dict.fromkeys(names, "x"),
    )
    page = show(odd, make_run("b"))
    rows = page.execute_script("return [...document.querySelectorAll('#figures tbody th')].map((th) => th.textContent)")
    assert {f"last {name}" for name in names} <= {*rows}
    assert page.execute_script("return document.getElementById('warnings').children.length") > 1
