import base64
import io
from collections.abc import Callable

import pytest
from PIL import Image

from footplate.tools.report.pictures import embed_pictures
from footplate.tools.runs import Run


def test_pictures_become_small_data_uris(make_run: Callable[..., Run]) -> None:
    found, left_out, unread = embed_pictures([make_run()], 1_000_000)
    assert [(each["run"], each["name"], [frame["step"] for frame in each["frames"]]) for each in found] == [
        (0, "val_3", [100, 200])
    ]
    head, data = found[0]["frames"][1]["src"].split(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (head, image.size, left_out, unread) == ("data:image/webp;base64", (640, 213), 0, {})
    assert abs(image.getpixel((5, 5))[0] - 200) < 8  # type: ignore[index]


def test_what_does_not_fit_is_left_out_and_counted(make_run: Callable[..., Run]) -> None:
    assert embed_pictures([make_run("a"), make_run("b")], 10) == ([], 2, {})


@pytest.mark.parametrize("damaged", [b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40), b""])
def test_a_picture_that_cannot_be_read_is_named_and_left_out(make_run: Callable[..., Run], damaged: bytes) -> None:
    runs = [make_run("a"), make_run("b")]
    runs[1].pictures[0].path.write_bytes(damaged)
    found, left_out, unread = embed_pictures(runs, 1_000_000)
    assert [(each["run"], [frame["step"] for frame in each["frames"]]) for each in found] == [
        (0, [100, 200]),
        (1, [200]),
    ]
    assert (left_out, list(unread), len(unread[1])) == (0, [1], 1)
    assert unread[1][0].startswith(f"the picture {runs[1].pictures[0].path} cannot be read: ")


def test_a_name_without_one_sound_picture_is_not_shown(make_run: Callable[..., Run]) -> None:
    run = make_run()
    for picture in run.pictures:
        picture.path.write_bytes(b"no picture")
    found, _, unread = embed_pictures([run], 1_000_000)
    assert (found, len(unread[0])) == ([], 2)
