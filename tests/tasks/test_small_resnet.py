import pytest
import torch

from footplate.tasks.small_resnet import SmallResNet


@pytest.mark.parametrize(
    ("stem_stride", "size", "expected"),
    [(2, 28, [(3, 8, 14, 14), (3, 12, 7, 7)]), (1, 9, [(3, 8, 9, 9), (3, 12, 5, 5)])],
)
def test_each_stage_halves_the_resolution(stem_stride: int, size: int, expected: list[tuple[int, ...]]) -> None:
    network = SmallResNet(1, widths=(8, 12), depths=(1, 2), stem_stride=stem_stride)
    assert [tuple(each.shape) for each in network(torch.zeros(3, 1, size, size))] == expected
