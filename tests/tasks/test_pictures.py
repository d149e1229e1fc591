from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.data.structures import BaseDataElement
from footplate.errors import DataError
from footplate.tasks.visualization_hook import picture_of


def test_the_picture_on_disk_is_preferred(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((4, 5, 3), (9, 8, 7), np.uint8)).save(path)
    inputs = {"inputs": [torch.zeros(3, 2, 2)]}
    assert picture_of(BaseDataElement(metainfo={"img_path": str(path)}), inputs, 0)[3, 4].tolist() == [9, 8, 7]


def test_of_one_made_in_memory_it_is_what_the_model_was_given() -> None:
    inputs = torch.full((2, 3, 4, 5), 300.0)
    inputs[1] = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    output = BaseDataElement(metainfo={"img_path": "made/0001.png"})
    assert picture_of(output, {"inputs": inputs}, 1)[0, 0].tolist() == [1, 2, 3]
    assert picture_of(BaseDataElement(), (inputs, []), 0).tolist() == np.full((4, 5, 3), 255).tolist()


def test_a_batch_without_pictures_is_named() -> None:
    with pytest.raises(DataError, match="holds no picture"):
        picture_of(BaseDataElement(), {"inputs": torch.zeros(2, 7)}, 0)
