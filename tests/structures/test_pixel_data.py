from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError
from footplate.structures import PixelData


def test_a_map_without_channels_gets_one() -> None:
    assert PixelData(data=torch.zeros(4, 5)).data.shape == (1, 4, 5)
    assert PixelData(data=np.zeros((4, 5))).data.shape == (1, 4, 5)
    assert PixelData(data=torch.zeros(2, 4, 5)).data.shape == (2, 4, 5)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ((slice(1, 3), slice(None, 2)), [[5, 6], [10, 11]]),
        ((1, 4), [[9]]),
        ((-1, slice(3, None)), [[18, 19]]),
    ],
)
def test_every_map_is_cropped(index: Any, expected: list[list[int]]) -> None:
    found = PixelData(metainfo={"a": 1}, data=torch.arange(20).view(4, 5), logits=np.arange(40).reshape(2, 4, 5))
    part = found[index]
    assert part.data[0].tolist() == expected
    assert part.logits[0].tolist() == expected
    assert (part.a, part.shape) == (1, (len(expected), len(expected[0])))


def test_shape_without_maps() -> None:
    assert PixelData().shape is None


@pytest.mark.parametrize("index", [3, (1, 2, 3)])
def test_one_number_does_not_crop(index: Any) -> None:
    with pytest.raises(ArgumentError, match="rows and columns"):
        _ = PixelData(data=torch.zeros(4, 5))[index]


def test_rows_outside_are_refused() -> None:
    with pytest.raises(IndexError, match="none at 4"):
        _ = PixelData(data=torch.zeros(4, 5))[4, 0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(4, 6), r"the field 'other' is \(4, 6\), 'data' is \(4, 5\)"),
        (torch.zeros(1, 1, 4, 5), r"\(C, H, W\) or \(H, W\)"),
        ([[1]], r"\(C, H, W\) or \(H, W\)"),
    ],
)
def test_maps_of_another_size_are_refused(value: Any, message: str) -> None:
    found = PixelData(data=torch.zeros(4, 5))
    with pytest.raises(ArgumentError, match=message):
        found.other = value
