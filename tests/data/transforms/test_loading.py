from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.data import LoadImageFromFile
from footplate.errors import ArgumentError, DataError

PIXELS = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]], np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> str:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def load(path: str, **options: Any) -> dict[str, Any]:
    found = LoadImageFromFile(**options)({"img_path": path})
    assert isinstance(found, dict)
    return found


def test_channels_are_blue_green_red_unless_told(path: str) -> None:
    assert np.array_equal(load(path)["img"], PIXELS[..., ::-1])
    assert np.array_equal(load(path, channel_order="rgb")["img"], PIXELS)
    assert load(path)["img"].flags["C_CONTIGUOUS"]


def test_the_size_is_noted(path: str) -> None:
    found = load(path, to_float32=True)
    assert found["img_shape"] == found["ori_shape"] == (2, 3)
    assert found["img"].dtype == np.float32


@pytest.mark.parametrize(
    ("color_type", "mode", "shape"),
    [
        ("color", "L", (2, 3, 3)),
        ("grayscale", "RGB", (2, 3)),
        ("unchanged", "RGBA", (2, 3, 4)),
        ("unchanged", "L", (2, 3)),
    ],
)
def test_kinds_of_pictures(color_type: str, mode: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / "b.png")
    assert load(str(tmp_path / "b.png"), color_type=color_type)["img"].shape == shape


def test_how_the_camera_was_held_is_heeded(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(PIXELS).save(tmp_path / "c.png", exif=exif)
    assert load(str(tmp_path / "c.png"))["img"].shape == (3, 2, 3)
    assert load(str(tmp_path / "c.png"), color_type="color_ignore_orientation")["img"].shape == (2, 3, 3)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_picture_that_cannot_be_read_is_named(content: bytes | None, path: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    if content is not None:
        broken.write_bytes(content)
    with pytest.raises(DataError, match=r"broken.png' (cannot be read: its format is not known|does not exist)"):
        load(str(broken))
    assert LoadImageFromFile(ignore_empty=True)({"img_path": str(broken)}) is None


def test_a_truncated_picture_is_named(path: str, tmp_path: Path) -> None:
    (tmp_path / "short.png").write_bytes(Path(path).read_bytes()[:-30])
    with pytest.raises(DataError, match=r"short.png' cannot be read"):
        load(str(tmp_path / "short.png"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"color_type": "colour"}, "did you mean 'color'?"), ({"channel_order": "grb"}, "'bgr' or 'rgb'")],
)
def test_unfit_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        LoadImageFromFile(**options)
