import pytest
import torch

from footplate_vision.small_resnet import Pyramid, SmallResNet


@pytest.mark.parametrize(
    ("stem_stride", "size", "expected"),
    [(2, 28, [(3, 8, 14, 14), (3, 12, 7, 7)]), (1, 9, [(3, 8, 9, 9), (3, 12, 5, 5)])],
)
def test_each_stage_halves_the_resolution(stem_stride: int, size: int, expected: list[tuple[int, ...]]) -> None:
    network = SmallResNet(1, widths=(8, 12), depths=(1, 2), stem_stride=stem_stride)
    assert [tuple(each.shape) for each in network(torch.zeros(3, 1, size, size))] == expected


def test_images_of_any_size_are_padded_to_whole_strides() -> None:
    pyramid = Pyramid((4, 6, 8), (1, 1, 1)).eval()
    inputs = torch.randn(1, 3, 13, 18)
    padded = torch.nn.functional.pad(inputs, (0, 6, 0, 3))
    assert pyramid.stride == 8
    assert all(map(torch.equal, pyramid.decode(inputs), pyramid.decode(padded)))
