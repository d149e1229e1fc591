from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import DataError
from footplate.registry import TRANSFORMS


@pytest.mark.parametrize("name", ["PackInputs", "PackClsInputs"])
def test_pictures_become_planes_and_the_rest_a_sample(name: str) -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    results = {"img": image, "gt_label": 4, "img_path": "a.png", "img_shape": (2, 4), "weight": 7, "more": 1}
    packed = TRANSFORMS.build({"type": name, "algorithm_keys": ["weight"]})(results)
    assert torch.equal(packed["inputs"], torch.from_numpy(image.transpose(2, 0, 1).copy()))
    sample = packed["data_samples"]
    assert sample.gt_label.tolist() == [4]
    assert (sample.img_path, sample.img_shape, sample.weight) == ("a.png", (2, 4), 7)
    assert "more" not in sample


def test_grey_pictures_have_one_plane() -> None:
    packed = TRANSFORMS.build({"type": "PackInputs"})({"img": np.zeros((5, 6), np.uint8)})
    assert packed["inputs"].shape == (1, 5, 6)
    assert "gt_label" not in packed["data_samples"]


def test_the_packed_picture_is_a_copy() -> None:
    image = np.zeros((2, 2), np.uint8)
    image.setflags(write=False)
    packed: dict[str, Any] = TRANSFORMS.build({"type": "PackInputs", "input_key": "crop"})(
        {"crop": image, "gt_score": [0.5, 0.5]}
    )
    packed["inputs"] += 1
    assert image.sum() == 0
    assert packed["data_samples"].gt_score.tolist() == [0.5, 0.5]


def test_a_picture_is_needed() -> None:
    with pytest.raises(DataError, match="there is no 'img'"):
        TRANSFORMS.build({"type": "PackInputs"})({"gt_label": 1})
