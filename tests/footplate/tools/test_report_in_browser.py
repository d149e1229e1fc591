"""The page in a real browser; where Debian's Chromium is not installed these tests say so."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from footplate.config import Config
from footplate.messages import printable
from footplate.metric_names import split_dataset
from footplate.tools.run_files import Start
from footplate.tools.runs import Run, Series, read_run
from tests.footplate.tools.conftest import MakeRun, Show, text_of, texts_of, with_values

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


def range_of(page: Any, chart: int = 0) -> tuple[float, float]:
    """Returns the iterations that a chart shows."""
    low, high = page.execute_script(f"const {{ from, to }} = window.footplate.charts[{chart}].scale; return [from, to]")
    return low, high


def keys(page: Any, selector: str, *typed: str) -> None:
    page.find_element("css selector", selector).send_keys(*typed)


def test_first_screen_answers_what_a_reader_asks(show: Show, make_run: MakeRun) -> None:
    run = make_run()
    (run.folder / "iter_400.sharded").mkdir()  # not a launch
    (run.folder / "resnet.py").touch()
    page = show(run)
    shown = text_of(page, ".hero")
    assert (
        "mIoU best of 4 validations 41.00 +30.00 since the first validation "
        "at iteration 400 of 400, in the last validation" in shown
    )
    assert "State 400 iterations planned length unknown" in shown
    assert "Training time 40 s 0.1 s per iteration" in shown
    titles = [text_of(page, f".main-charts .chart:nth-child({place}) h3") for place in (1, 2)]
    assert titles == ["mIoU", "Loss training"]
    bottom = page.execute_script("return document.querySelector('.main-charts').getBoundingClientRect().bottom")
    assert bottom < 800
    assert text_of(page, ".title") == "first 1 warning resnet · 1 January 2026, 00:00"


def test_classes_at_zero_are_marked(show: Show, make_run: MakeRun) -> None:
    run = make_run()
    (table,) = run.per_class
    rows: list[list[Any]] = [["bag", 0.0, 10.0], ["boot", 57.39, 79.45]]
    columns = ["class", "bag", "boot"]
    matrix = table._replace(metric="confusion_matrix", columns=columns, rows=[["bag", 0, 9], ["boot", 0, 9]])
    page = show(run._replace(per_class=[table._replace(rows=rows), matrix]))
    (marked,) = page.find_elements("css selector", "td.zero")
    assert marked.text == "0.00"
    assert texts_of(page, "#classes h3") == [
        "IoU at iteration 400, 1 of 2 classes at zero",
        "Confusion matrix at iteration 400",
    ]
    assert text_of(page, ".title .bad") == "1 of 2 classes at zero"  # on the first screen
    assert marked.value_of_css_property("color") == "rgba(185, 28, 28, 1)"


def test_a_class_without_samples_is_not_a_failure(show: Show, make_run: MakeRun) -> None:
    run = make_run()
    (table,) = run.per_class
    columns, rows = ["class", "IoU", "support"], [["bag", 0.0, 0], ["boot", 57.39, 8]]
    page = show(run._replace(per_class=[table._replace(columns=columns, rows=rows)]))
    assert not page.find_elements("css selector", ".title .bad")
    assert texts_of(page, "#classes tbody tr") == ["bag – 0", "boot 57.39 8"]
    assert not page.find_elements("css selector", "#classes .bad")


def test_worst_images_matrix_and_data_are_shown(show: Show, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    folder = tmp_path / "first/20260101_000000/vis_data"
    for step, rank, title in ((100, 1, "old"), (200, 1, "a.png: 9% wrong"), (200, 2, "b.png: 3% wrong")):
        panels = [["truth", 0, 0, 30, 30], ["prediction", 30, 0, 60, 30]]
        layout = {"panels": panels, "legend": [], "title": title, "path": f"data/{title[:5]}"}
        texts = PngInfo()
        texts.add_text("footplate-layout", json.dumps(layout))
        Image.new("RGB", (60, 30)).save(folder / f"vis_image/worst_val_{rank}_{step}.png", pnginfo=texts)
    labels = [["bag", 300], ["boot", 100], ["coat", 0]]
    content = {"samples": 1000, "unit": "images", "labels": labels, "sizes": [[64, 48, 900], [32, 32, 100]]}
    (folder / "training_data.json").write_text(json.dumps(content))
    run = read_run(tmp_path / "first")
    (table,) = run.per_class
    columns = ["class", "bag", "boot", "(no object)"]
    rows = [["bag", 3, 1, 0], ["boot", 0, 3, 1], ["(no object)", 2, 0, 0]]
    matrix = table._replace(metric="confusion_matrix of boxes", columns=columns, rows=rows)
    page = show(run._replace(per_class=[matrix]))
    assert texts_of(page, "#worst h3") == ["Validation at iteration 200"]
    assert texts_of(page, "#worst .card > figcaption") == ["1. a.png: 9% wrong", "2. b.png: 3% wrong"]
    keys(page, "#worst .enlarge", "\ue007")  # enter
    assert texts_of(page, "dialog :is(h3, .path)") == ["1. a.png: 9% wrong", "data/a.png"]
    keys(page, "dialog button", "\ue00c")  # escape
    assert texts_of(page, "#pictures .card > figcaption") == ["val_3"]
    assert text_of(page, "#classes h3") == "Confusion matrix of boxes at iteration 400"
    assert texts_of(page, ".matrix tbody tr") == ["bag 75 25", "boot 75 25", "(no object) 100"]
    assert text_of(page, "#classes .note") == (
        "Percent of each row. Most confused: bag as boot (25%), boot undetected (25%)."
    )
    assert text_of(page, "#data-shown .note").startswith("The first 1,000 training samples.")
    assert texts_of(page, "#data-shown thead tr") == [
        "class training images training % validation %",
        "width × height images",
    ]
    assert texts_of(page, "#data-shown tbody tr") == [
        "bag 300 75.0 50.0",
        "boot 100 25.0 50.0",
        "coat 0 0.0 –",
        "64 × 48 900",
        "32 × 32 100",
    ]


def test_outlier_does_not_flatten_a_curve(show: Show, make_run: MakeRun) -> None:
    values = (4e4 if place == 12 else 2.0 - place / 40 for place in range(1, 41))
    page = show(with_values(make_run(), "loss", values, interval=10.0))
    assert text_of(page, ".outlier") == "↑ 40000 at 120"
    height = page.execute_script("const { toY } = window.footplate.charts[1].scale; return toY(1) - toY(1.9)")
    assert height > 100


def test_dragging_zooms_all_charts_and_a_double_click_shows_the_whole_run(show: Show, make_run: MakeRun) -> None:
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


def test_pointer_shows_the_values_of_the_nearest_iteration(show: Show, make_run: MakeRun) -> None:
    from selenium.webdriver import ActionChains

    page = show(make_run("a"), make_run("b", lr=0.2))
    plot = page.find_element("css selector", ".plot")
    ActionChains(page).move_to_element(plot).perform()
    assert text_of(page, "#tip") == "iteration 200 b 22 a 21"


def test_axes_have_ticks_a_unit_and_logarithms(show: Show, make_run: MakeRun) -> None:
    page = show(make_run())
    loss = ".main-charts .chart:nth-child(2) .grid"
    texts = texts_of(page, f"{loss} text")
    assert (texts[-6:-1], texts[-1]) == (["0", "100", "200", "300", "400"], "iteration")
    assert len(page.find_elements("css selector", f"{loss} .axis")) == 6  # the line and the ticks
    buttons = page.find_elements("css selector", ".main-charts + .controls .choice button")
    assert [button.text for button in buttons] == ["Iterations", "Training time", "Linear", "Log"]
    buttons[1].click()
    assert range_of(page) == (0, 40)  # seconds
    assert texts_of(page, f"{loss} text")[-6:] == ["0 s", "10 s", "20 s", "30 s", "40 s", "training time"]
    buttons[3].click()
    steps = page.execute_script("const { toY } = window.footplate.charts[0].scale; return [toY(10), toY(20), toY(40)]")
    assert abs(steps[0] - 2 * steps[1] + steps[2]) < 0.01
    assert not page.find_elements("css selector", ".main-charts .chart:first-child [d*=NaN]")


def test_a_resumed_run_says_so(show: Show, make_run: MakeRun) -> None:
    run = make_run()
    starts = [Start(run.folder, "train"), Start(run.folder, "resume", iteration=150)]
    page = show(run._replace(launches=starts, config=Config({"train_cfg": {"max_iters": 400}})))
    assert "State Finished 400 iterations, resumed at 150" in text_of(page, ".hero")
    place = page.execute_script("return window.footplate.charts[0].scale.toX(150)")
    tick = page.find_element("css selector", ".main-charts .chart:first-child .resumed line")
    assert float(tick.get_attribute("x1")) == pytest.approx(place)


def test_validations_that_are_all_0_are_a_problem_and_nothing_is_the_best(show: Show, make_run: MakeRun) -> None:
    run = with_values(make_run(), "mIoU", (0, 0, 0))
    run.checkpoints.update({run.folder / "best_mIoU_iter_100.pth": 1, run.folder / "iter_400.pth": 1})
    page = show(run)
    shown = text_of(page, ".hero")
    assert "Always 0 The mIoU is 0 in 3 validations. Train longer, or check the labels." in shown
    assert "0.0000 the same in all 3 validations" in shown
    assert "Never better" not in shown
    assert text_of(page, ".command > span").startswith("Use the last checkpoint")


def test_errors_come_first_and_other_warnings_after_the_images(show: Show, make_run: MakeRun) -> None:
    run = make_run()

    def order() -> list[str]:
        page = show(run)
        return [each.get_attribute("id") for each in page.find_elements("css selector", "main > section:not([hidden])")]

    assert order()[:3] == ["overview", "pictures", "warnings"]
    run.warnings.append("2026/01/01 00:00:02 - footplate - ERROR - the disk is full")
    assert order()[:3] == ["overview", "warnings", "pictures"]


def test_legend_hides_a_curve_in_its_chart(show: Show, make_run: MakeRun) -> None:
    run = make_run()
    validated = Series("loss", "val", [(at, 40 / at) for at in (100.0, 200.0, 300.0, 400.0)])
    page = show(run._replace(series=[*run.series, validated]))
    lines = ".main-charts .chart:nth-child(2) path.line"
    head = "Loss training (mean since the previous validation) and validation"
    assert text_of(page, ".main-charts .chart:nth-child(2) h3") == head
    assert len(page.find_elements("css selector", lines)) == 3  # the training loss also as logged
    page.find_element("css selector", ".legend button").click()
    assert len(page.find_elements("css selector", lines)) == 1
    assert page.find_element("css selector", ".legend button").get_attribute("aria-pressed") == "false"


def test_more_than_four_images_have_a_button(show: Show, make_run: MakeRun) -> None:
    run = make_run()
    (folder,) = run.folder.glob("*/vis_data/vis_image")
    for name in range(5, 10):
        Image.new("RGB", (90, 30)).save(folder / f"val_{name}_200.png")
        Image.new("RGB", (90, 30)).save(folder / f"val_{name}_100.png")
    page = show(read_run(run.folder))
    assert len(page.find_elements("css selector", "#gallery .card")) == 4
    assert text_of(page, "#gallery .more") == "2 more"
    page.find_element("css selector", "#gallery .more").click()
    assert len(page.find_elements("css selector", "#gallery .card")) == 6
    page.find_element("css selector", "#pictures .controls button").click()
    assert len(page.find_elements("css selector", "#gallery .card")) == 6  # also at the other iteration


def test_the_slider_shows_the_images_of_one_validation_by_keyboard(show: Show, make_run: MakeRun) -> None:
    run = make_run()
    (folder,) = run.folder.glob("*/vis_data/vis_image")
    for name in ("val_5_100", "train_1_150", "train_1_20", "train_1_30", "train_1_40"):
        Image.new("RGB", (90, 30)).save(folder / f"{name}.png")
    page = show(read_run(run.folder))
    shown = page.find_element("css selector", "#pictures .controls output")
    before = page.find_elements("css selector", "#gallery img")[1].get_attribute("src")
    assert shown.text == "iteration 200"
    captions = "#gallery .card > :is(figcaption, div)"
    assert texts_of(page, captions) == ["train_1", "iteration 150", "val_3", "iteration 200"]
    keys(page, "#pictures input", *"\ue012\ue012")  # the left arrow
    assert shown.text == "iteration 100"
    assert texts_of(page, captions)[2:] == ["val_3", "iteration 100", "val_5", "iteration 100"]
    assert page.find_elements("css selector", "#gallery img")[1].get_attribute("src") != before


def test_images_are_enlarged_with_arrows_to_the_other_images(show: Show, make_run: MakeRun) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    run = make_run()
    (folder,) = run.folder.glob("*/vis_data/vis_image")
    Image.new("RGB", (90, 30)).save(folder / "val_5_200.png")
    page = show(read_run(run.folder))
    keys(page, "#gallery .enlarge", "\ue007")  # enter
    assert text_of(page, "dialog .head") == "val_3 ← → ✕"
    # The image gets its size and class when it has loaded.
    WebDriverWait(page, 30).until(lambda opened: opened.find_element("css selector", "dialog img").size["width"] > 1000)
    keys(page, "dialog button", "\ue014")  # the right arrow
    assert text_of(page, "dialog h3") == "val_5"
    WebDriverWait(page, 30).until(lambda opened: opened.find_elements("css selector", "dialog img.small"))
    keys(page, "dialog button", "\ue00c")  # escape
    WebDriverWait(page, 30).until_not(lambda opened: opened.find_elements("css selector", "dialog"))


def test_theme_is_chosen_and_kept(show: Show, make_run: MakeRun) -> None:
    page = show(make_run())
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(paper)
    keys(page, "#theme", "\ue007")  # enter
    dark = page.execute_script(paper)
    assert (light, dark) == ("rgb(245, 246, 248)", "rgb(15, 18, 24)")
    assert text_of(page, "#theme") == "Light theme"  # the one that it switches to
    page.refresh()
    assert page.execute_script(paper) == dark


def test_page_fits_the_width_of_a_phone(show: Show, make_run: MakeRun) -> None:
    page = show(make_run("a"), make_run("b"), make_run("c", lr=0.2), width=400)
    width, wide = page.execute_script(
        "return [document.documentElement.scrollWidth,"
        " [...document.querySelectorAll('.plot svg')].filter((u) => u.getBoundingClientRect().right > 400).length]"
    )
    assert (width, wide) == (400, 0)


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


def test_a_run_with_hostile_text_in_all_of_its_files_is_shown_and_not_executed(
    show: Show, make_run: MakeRun, tmp_path: Path
) -> None:
    text = "]]><!--</script><script>window.executed = 1</script><img src=x onerror=window.executed=1>"
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
