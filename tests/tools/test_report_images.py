import base64
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from footplate.tools.report_images import embed_images
from footplate.tools.runs import Run


def test_images_become_small_data_uris(make_run: Callable[..., Run]) -> None:
    found, sources, left_out, unread = embed_images([make_run()], 1_000_000)
    assert [(each["run"], each["name"], [frame["step"] for frame in each["frames"]]) for each in found] == [
        (0, "val_3", [100, 200])
    ]
    assert found[0]["frames"][1]["panels"] == [{"caption": "", "src": 0}]  # the latest step is embedded first
    head, data = sources[0].split(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (head, image.size, left_out, unread) == ("data:image/webp;base64", (900, 300), 0, {})
    assert abs(image.getpixel((5, 5))[0] - 200) < 8  # type: ignore[index]


def test_images_over_the_budget_are_left_out_and_counted(make_run: Callable[..., Run]) -> None:
    assert embed_images([make_run("a"), make_run("b")], 10) == ([], [], 2, {})


@pytest.mark.parametrize("damaged", [b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40), b""])
def test_unreadable_image_is_reported_and_left_out(make_run: Callable[..., Run], damaged: bytes) -> None:
    runs = [make_run("a"), make_run("b")]
    runs[1].images[0].path.write_bytes(damaged)
    found, _, left_out, unread = embed_images(runs, 1_000_000)
    assert [(each["run"], [frame["step"] for frame in each["frames"]]) for each in found] == [
        (0, [100, 200]),
        (1, [200]),
    ]
    assert (left_out, list(unread), len(unread[1])) == (0, [1], 1)
    assert unread[1][0].startswith(f"the image {runs[1].images[0].path} cannot be read: ")


def test_name_without_readable_images_is_not_shown(make_run: Callable[..., Run]) -> None:
    run = make_run()
    for image in run.images:
        image.path.write_bytes(b"no image")
    found, _, _, unread = embed_images([run], 1_000_000)
    assert (found, len(unread[0])) == ([], 2)


def test_small_budget_shows_the_latest_step_of_more_images(make_run: Callable[..., Run]) -> None:
    runs = [make_run("a"), make_run("b")]
    for place, image in enumerate(image for run in runs for image in run.images):
        Image.new("RGB", (900, 300), (40 * place, 0, 0)).save(image.path)
    size = sum(map(len, embed_images(runs, 1_000_000).sources))
    found = embed_images(runs, size * 2 // 3).found
    assert [(each["run"], [frame["step"] for frame in each["frames"]]) for each in found] == [(0, [200]), (1, [200])]


LAYOUT = {"panels": [["image", 0, 0, 300, 300], ["prediction", 310, 0, 610, 300]], "legend": [["bag", 9, 8, 7]]}


def _write_panels(run: Run, layout: Any) -> None:
    """Replaces the images of a run: the left panel is the same at each step, the right one is not."""
    for image in run.images:
        page = Image.new("RGB", (900, 300), (0, 0, 90))
        page.paste((image.step, 0, 0), (305, 0, 900, 300))
        texts = PngInfo()
        texts.add_text("footplate-layout", json.dumps(layout))
        page.save(image.path, pnginfo=texts)


def test_panels_that_are_the_same_are_embedded_once(make_run: Callable[..., Run]) -> None:
    runs = [make_run("a"), make_run("b")]
    for run in runs:
        _write_panels(run, LAYOUT)
    found, sources, _, _ = embed_images(runs, 1_000_000)
    assert len(sources) == 3
    assert [[panel["src"] for panel in frame["panels"]] for each in found for frame in each["frames"]] == [
        [0, 2],
        [0, 1],
    ] * 2
    frame = found[0]["frames"][0]
    assert [panel["caption"] for panel in frame["panels"]] == ["image", "prediction"]
    assert frame["legend"] == [{"label": "bag", "color": "rgb(9 8 7)"}]
    shown = Image.open(io.BytesIO(base64.b64decode(sources[1].split(",")[1])))
    assert shown.size == (300, 300)
    assert abs(shown.getpixel((5, 5))[0] - 200) < 8  # type: ignore[index]


@pytest.mark.parametrize(
    "layout",
    [
        {"panels": [["image", 0, 0, 901, 300]], "legend": []},
        {"panels": [["image", 5, 0, 5, 300]], "legend": []},
        {"panels": [["image", 0, 0, 9, 9]] * 1000, "legend": []},
        {"panels": [["image", 0, 0, 9]], "legend": []},
        {"panels": [["image", 0, 0, float("inf"), 9]], "legend": []},
        {"panels": [["image", 0, 0, 9, 9]], "legend": [["bag", "red;x", 0, 0]]},
        {"panels": []},
        [],
        None,
    ],
)
def test_image_with_an_invalid_layout_is_shown_whole(make_run: Callable[..., Run], layout: Any) -> None:
    run = make_run()
    _write_panels(run, layout)
    found = embed_images([run], 1_000_000).found
    assert [frame["panels"] for frame in found[0]["frames"]] == [
        [{"caption": "", "src": 1}],
        [{"caption": "", "src": 0}],
    ]
    assert found[0]["frames"][0]["legend"] == []
