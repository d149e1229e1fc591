import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from footplate.tools.report import embed_images, write_report
from footplate.tools.runs import Run
from tests.footplate.tools.conftest import MakeRun


def data_of(page: Path) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert match
    found: dict[str, Any] = json.loads(match[1], parse_constant=pytest.fail)  # as browsers read it: NaN is an error
    return found


def json_of(page: str) -> str:
    return page.partition('id="data">')[2].partition("</script>")[0]


def test_page_contains_everything_about_a_run(make_run: MakeRun, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert write_report([make_run()], str(page)) == page.stat().st_size
    data = data_of(page)
    charts = data["charts"]
    assert (charts["loss"]["name"], charts["headline"]["name"]) == ("loss", "mIoU")
    assert [(chart["name"], chart["mode"]) for chart in charts["metrics"]] == [("mIoU", "val")]
    assert [(chart["name"], chart["mode"]) for chart in charts["details"]] == [("lr", "train"), ("time", "train")]
    run = data["runs"][0]
    assert run["config"] == "lr = 0.1  # base.py:7\n"
    assert data["headline"] == {"name": "mIoU", "mode": "val", "rule": "greater"}
    assert run["metric"]["value"] == 41
    assert data["classes"][0]["runs"][0]["best"] == 0
    assert run["warnings"] == ["2026/01/01 00:00:01 - footplate - WARNING - the disk is nearly full"]
    assert run["environment"]["python"] == "3.11"
    assert [frame["step"] for frame in data["images"][0]["frames"]] == [100, 200]


def test_non_finite_numbers_become_null(make_run: MakeRun, tmp_path: Path) -> None:
    strange = math.inf
    run = make_run()
    table = run.per_class[0]._replace(rows=[["shoe", strange, 1.0], ["bag", 22.0, 1.0]])
    run = run._replace(per_class=[table], environment={"clock": strange})
    run.series[0].points[3] = (40.0, strange)
    write_report([run], str(tmp_path / "report.html"))
    data = data_of(tmp_path / "report.html")
    assert data["classes"][0]["runs"][0]["values"] == [[[None, 22]], [[1, 1]]]
    assert data["runs"][0]["environment"] == {"clock": None}
    assert run.series[0].name == "lr"
    assert data["charts"]["details"][0]["curves"][0]["y"][3] is None


def test_long_curves_are_thinned_without_losing_a_peak(make_run: MakeRun, tmp_path: Path) -> None:
    lines = 3000
    run = make_run(lines=lines)
    loss = run.scalars("train")["loss"]
    loss.points[lines // 3] = (loss.points[lines // 3][0], 99.0)
    write_report([run], str(tmp_path / "report.html"))
    curve = data_of(tmp_path / "report.html")["charts"]["loss"]["curves"][0]
    assert len(curve["x"]) <= 2001
    assert (max(curve["y"]), curve["thinned"], curve["x"][-1]) == (99.0, True, lines * 10)
    assert curve["x"] == sorted(curve["x"])


def test_no_text_of_a_run_ends_or_opens_a_script(make_run: MakeRun, tmp_path: Path) -> None:
    text = "</script><!--<script>alert(1)"
    run = make_run("<!--<script>alert(1)")._replace(warnings=[text], explained=text, environment={text: text})
    write_report([run], str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    data = data_of(tmp_path / "report.html")
    assert data["runs"][0]["config"].startswith(text[:1])
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search("<!--|[<>&\u2028\u2029]", json_of(page))


def test_unreadable_image_is_reported_and_left_out(make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("b")]
    runs[1].images[0].path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    page, unread = embed_images(runs, 160)
    assert [(each["run"], [frame["step"] for frame in each["frames"]]) for each in page["images"]] == [
        (0, [100, 200]),
        (1, [200]),
    ]
    assert (page["imagesLeftOut"], list(map(len, unread))) == (0, [0, 1])
    assert unread[1][0].startswith(f"the image {runs[1].images[0].path} cannot be read: ")


LAYOUT = {"panels": [["image", 0, 0, 300, 300], ["prediction", 310, 0, 610, 300]], "legend": [["bag", 9, 8, 7]]}


def _write_panels(run: Run, layout: Any) -> None:
    """Replaces the images of a run: the left panel is the same at each step, the right one is not."""
    for image in run.images:
        page = Image.new("RGB", (900, 300), (0, 0, 90))
        page.paste((image.step, 0, 0), (305, 0, 900, 300))
        texts = PngInfo()
        texts.add_text("footplate-layout", json.dumps(layout))
        page.save(image.path, pnginfo=texts)


def test_panels_that_are_the_same_are_embedded_once(make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("b")]
    for run in runs:
        _write_panels(run, LAYOUT)
    page, _ = embed_images(runs, 160)
    found = page["images"]
    assert len(page["sources"]) == 3
    assert [[panel["src"] for panel in frame["panels"]] for each in found for frame in each["frames"]] == [
        [0, 1],
        [0, 2],
    ] * 2
    frame = found[0]["frames"][0]
    assert [panel["caption"] for panel in frame["panels"]] == ["image", "prediction"]
    assert frame["legend"] == [{"label": "bag", "color": "rgb(9 8 7)"}]
    shown = Image.open(io.BytesIO(base64.b64decode(page["sources"][1].split(",")[1])))
    assert shown.size == (300, 300)
    assert abs(shown.getpixel((5, 5))[0] - 100) < 8  # type: ignore[index]
