import base64
import io
from collections.abc import Callable

import pytest
from PIL import Image

from footplate.tools.report_images import embed_images
from footplate.tools.runs import Run


def test_images_become_small_data_uris(make_run: Callable[..., Run]) -> None:
    found, left_out, unread = embed_images([make_run()], 1_000_000)
    assert [(each["run"], each["name"], [frame["step"] for frame in each["frames"]]) for each in found] == [
        (0, "val_3", [100, 200])
    ]
    head, data = found[0]["frames"][1]["src"].split(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (head, image.size, left_out, unread) == ("data:image/webp;base64", (900, 300), 0, {})
    assert abs(image.getpixel((5, 5))[0] - 200) < 8  # type: ignore[index]


def test_images_over_the_budget_are_left_out_and_counted(make_run: Callable[..., Run]) -> None:
    assert embed_images([make_run("a"), make_run("b")], 10) == ([], 2, {})


@pytest.mark.parametrize("damaged", [b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40), b""])
def test_unreadable_image_is_reported_and_left_out(make_run: Callable[..., Run], damaged: bytes) -> None:
    runs = [make_run("a"), make_run("b")]
    runs[1].images[0].path.write_bytes(damaged)
    found, left_out, unread = embed_images(runs, 1_000_000)
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
    found, _, unread = embed_images([run], 1_000_000)
    assert (found, len(unread[0])) == ([], 2)


def test_small_budget_shows_the_latest_step_of_more_images(make_run: Callable[..., Run]) -> None:
    runs = [make_run("a"), make_run("b")]
    whole = embed_images(runs, 1_000_000).found
    size = sum(len(frame["src"]) for each in whole for frame in each["frames"])
    found = embed_images(runs, size * 2 // 3).found
    assert [(each["run"], [frame["step"] for frame in each["frames"]]) for each in found] == [(0, [200]), (1, [200])]
