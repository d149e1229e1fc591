from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.visualization import picture_of


def test_the_file_is_preferred(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5, 3), (9, 8, 7), np.uint8)).save(tmp_path / "a.png")
    for path, pixel in ((tmp_path / "a.png", [9, 8, 7]), (tmp_path / "gone.png", [0, 0, 0])):
        picture = picture_of(str(path), {"inputs": torch.zeros(1, 3, 4, 5)}, 0)
        assert picture is not None
        assert (picture.shape, picture[0, 0].tolist()) == ((4, 5, 3), pixel)


@pytest.mark.parametrize("batch", [None, {}, {"inputs": torch.zeros(1, 7)}, [], ["text"]])
def test_where_there_is_no_picture(batch: Any) -> None:
    assert picture_of(None, batch if batch != ["text"] else None, 0) is None


def test_gray_pictures_become_coloured() -> None:
    picture = picture_of(None, [torch.full((2, 1, 4, 5), 300.0)], 1)
    assert picture is not None
    assert (picture.shape, int(picture.min())) == ((4, 5, 3), 255)
