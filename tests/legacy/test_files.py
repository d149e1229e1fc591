import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from footplate.errors import ArgumentError
from footplate.legacy.files import FileClient, imfrombytes, imread, mkdir_or_exist

PIXELS = np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)


def test_pictures_are_read_in_either_order(tmp_path: Path) -> None:
    path = tmp_path / "a/b.png"
    mkdir_or_exist(path.parent)
    mkdir_or_exist(path.parent)
    Image.fromarray(PIXELS).save(path)
    content = FileClient(backend="disk").get(path)
    assert np.array_equal(imfrombytes(content, channel_order="rgb"), PIXELS)
    assert np.array_equal(imread(path), PIXELS[..., ::-1])
    assert imread(path, "grayscale").tolist() == [[76, 29]]
    assert np.array_equal(imread(path, "unchanged"), PIXELS)


def test_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    assert FileClient().get_text(tmp_path / "a.txt") == "words"


def test_an_unknown_order_is_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "png")
    with pytest.raises(ArgumentError) as caught:
        imfrombytes(buffer.getvalue(), channel_order="rbg")
    assert caught.value.key == "channel_order"
