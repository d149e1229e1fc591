import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from footplate.errors import ArgumentError
from footplate.first_generation.adapters.files import FileClient, imfrombytes, imread, mkdir_or_exist

PIXELS = np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)


def test_imread_channel_order(tmp_path: Path) -> None:
    path = tmp_path / "a/b.png"
    mkdir_or_exist(path.parent)
    mkdir_or_exist(path.parent)
    Image.fromarray(PIXELS).save(path)
    content = FileClient(backend="disk").get(path)
    assert np.array_equal(imfrombytes(content, channel_order="rgb"), PIXELS)
    assert np.array_equal(imread(path), PIXELS[..., ::-1])
    assert imread(path, "grayscale").tolist() == [[76, 29]]
    assert np.array_equal(imread(path, "unchanged", "rgb"), PIXELS[..., ::-1])  # as in mmcv 1.7.2
    assert imread(PIXELS) is PIXELS


@pytest.mark.parametrize(
    ("backend", "expected"), [("pillow", [[0, 1, 2]]), (None, [[[0, 0, 0], [0, 0, 255], [0, 255, 0]]])]
)
def test_palette_image_is_read_as_indices_with_pillow_only(backend: str | None, expected: list[object]) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [0] * 759)
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    assert imfrombytes(buffer.getvalue(), "unchanged", backend=backend).tolist() == expected


def test_alpha_channel_follows_the_colors() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[[30, 40, 50, 77]]], dtype=np.uint8)).save(buffer, "png")
    assert imfrombytes(buffer.getvalue(), "unchanged").tolist() == [[[50, 40, 30, 77]]]


def test_file_client_reads_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    assert FileClient().get_text(tmp_path / "a.txt") == "words"


def test_unknown_channel_order_raises() -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "png")
    with pytest.raises(ArgumentError) as caught:
        imfrombytes(buffer.getvalue(), channel_order="rbg")
    assert caught.value.key == "channel_order"
