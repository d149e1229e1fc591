import pytest
import torch

from footplate.errors import ArgumentError
from footplate.models import SmallResNet


@pytest.mark.parametrize(
    ("stem_stride", "size", "expected"),
    [(2, 28, [(3, 8, 14, 14), (3, 12, 7, 7), (3, 16, 4, 4)]), (1, 9, [(3, 8, 9, 9), (3, 12, 5, 5), (3, 16, 3, 3)])],
)
def test_each_stage_halves_the_resolution(stem_stride: int, size: int, expected: list[tuple[int, ...]]) -> None:
    network = SmallResNet(1, widths=(8, 12, 16), depths=(1, 2, 1), stem_stride=stem_stride)
    assert [tuple(each.shape) for each in network(torch.zeros(3, 1, size, size))] == expected


@pytest.mark.parametrize(("widths", "depths"), [((8, 8), (1,)), ((), ())])
def test_widths_and_depths_must_have_one_length(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="widths and depths must have the same length"):
        SmallResNet(1, widths=widths, depths=depths)
