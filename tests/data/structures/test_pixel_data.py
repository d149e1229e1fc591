from typing import Any

import numpy as np
import pytest
import torch

from footplate.data.structures import PixelData
from footplate.errors import ArgumentError


def test_channel_dimension_is_added() -> None:
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
def test_indexing_crops_all_fields(index: Any, expected: list[list[int]]) -> None:
    found = PixelData(metainfo={"a": 1}, data=torch.arange(20).view(4, 5), logits=np.arange(40).reshape(2, 4, 5))
    part = found[index]
    assert part.data[0].tolist() == expected
    assert part.logits[0].tolist() == expected
    assert (part.a, part.shape) == (1, (len(expected), len(expected[0])))


def test_shape_without_fields_is_none() -> None:
    assert PixelData().shape is None


@pytest.mark.parametrize("index", [3, (1, 2, 3)])
def test_index_without_rows_and_columns_is_refused(index: Any) -> None:
    with pytest.raises(ArgumentError, match="rows and columns"):
        _ = PixelData(data=torch.zeros(4, 5))[index]


def test_row_out_of_range_is_refused() -> None:
    with pytest.raises(IndexError, match="index 4 is out of range for a dimension of size 4"):
        _ = PixelData(data=torch.zeros(4, 5))[4, 0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(4, 6), r"but 'other' has \(4, 6\) and 'data' has \(4, 5\)"),
        (torch.zeros(1, 1, 4, 5), r"\(C, H, W\) or \(H, W\)"),
        ([[1]], r"\(C, H, W\) or \(H, W\)"),
    ],
)
def test_fields_of_another_shape_are_refused(value: Any, message: str) -> None:
    found = PixelData(data=torch.zeros(4, 5))
    with pytest.raises(ArgumentError, match=message):
        found.other = value
