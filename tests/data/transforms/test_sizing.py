from typing import Any

import numpy as np
import pytest

from footplate.data import seed_generators
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS


def changed(image: Any, kind: str, seed: int = 0, **arguments: Any) -> dict[str, Any]:
    seed_generators(seed)
    found: dict[str, Any] = TRANSFORMS.build({"type": kind, **arguments})({"img": image})
    return found


@pytest.mark.parametrize(
    ("edge", "expected"),
    [("short", (10, 20)), ("long", (5, 10)), ("width", (5, 10)), ("height", (10, 20))],
)
def test_one_edge_gets_its_length_and_the_other_follows(edge: str, expected: tuple[int, int]) -> None:
    found = changed(np.zeros((30, 60, 3), np.uint8), "ResizeEdge", scale=10, edge=edge)
    assert found["img"].shape == (*expected, 3)
    assert found["img_shape"] == expected


def test_the_middle_is_cut_out() -> None:
    image = np.arange(35, dtype=np.uint8).reshape(5, 7)
    found = changed(image, "CenterCrop", crop_size=(3, 1))
    assert found["img"].tolist() == [[16, 17, 18]]
    assert found["img_shape"] == (1, 3)


def test_a_smaller_picture_is_padded_all_around() -> None:
    found = changed(np.ones((1, 2, 3), np.uint8), "CenterCrop", crop_size=4)["img"]
    assert found.shape == (4, 4, 3)
    assert found[..., 0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_part_is_of_the_asked_share_and_size() -> None:
    ramp = np.tile(np.arange(100, dtype=np.uint8), (100, 1))
    widths = []
    for seed in range(50):
        found = changed(
            ramp, "RandomResizedCrop", seed, scale=(20, 10), crop_ratio_range=(0.25, 0.25), aspect_ratio_range=(1, 1)
        )
        assert found["img"].shape == (10, 20)
        widths.append(int(found["img"][0, -1]) - int(found["img"][0, 0]))
    assert all(45 <= width <= 50 for width in widths)


def test_where_no_part_fits_the_middle_is_taken() -> None:
    image = np.tile(np.arange(100, dtype=np.uint8), (4, 1))
    found = changed(image, "RandomResizedCrop", scale=4, crop_ratio_range=(1, 1), aspect_ratio_range=(1, 1))["img"]
    assert found[0].tolist() == [48, 49, 50, 51]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("ResizeEdge", {"scale": 0}, "whole number of at least 1"),
        ("ResizeEdge", {"scale": 4, "edge": "shorter"}, "did you mean 'short'"),
        ("CenterCrop", {"crop_size": (4, -1)}, "whole number of at least 1"),
        ("RandomResizedCrop", {"scale": 2.5}, "must be a whole number"),
        ("RandomResizedCrop", {"scale": 4, "crop_ratio_range": (0.5, 2)}, "between 0 and 1"),
        ("RandomResizedCrop", {"scale": 4, "aspect_ratio_range": (2, 1)}, "range above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        changed(np.zeros((4, 4), np.uint8), kind, **arguments)
