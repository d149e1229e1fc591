import base64
import io
from collections.abc import Callable

import pytest
from PIL import Image

from footplate.errors import DataError
from footplate.inspection.report.pictures import embed_pictures
from footplate.inspection.runs import Run


def test_pictures_become_small_data_uris(make_run: Callable[..., Run]) -> None:
    found, left_out = embed_pictures([make_run()], 1_000_000)
    assert [(each["run"], each["name"], [frame["step"] for frame in each["frames"]]) for each in found] == [
        (0, "val_3", [100, 200])
    ]
    head, data = found[0]["frames"][1]["src"].split(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (head, image.size, left_out) == ("data:image/webp;base64", (640, 213), 0)
    assert abs(image.getpixel((5, 5))[0] - 200) < 8  # type: ignore[index]


def test_what_does_not_fit_is_left_out_and_counted(make_run: Callable[..., Run]) -> None:
    assert embed_pictures([make_run("a"), make_run("b")], 10) == ([], 2)


def test_a_picture_that_cannot_be_read_is_named(make_run: Callable[..., Run]) -> None:
    run = make_run()
    run.pictures[0].path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="val_3_100.png' cannot be read"):
        embed_pictures([run], 1_000_000)
