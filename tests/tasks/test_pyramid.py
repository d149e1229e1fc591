import pytest
import torch

from footplate.errors import ArgumentError
from footplate.tasks.pyramid import Pyramid


@pytest.mark.parametrize("levels", [1, 2, 3, None])
def test_levels_are_decoded_from_the_deepest(levels: int | None) -> None:
    pyramid = Pyramid((4, 6, 8), (1, 0, 1), levels=levels)
    shapes = [tuple(each.shape) for each in pyramid.decode(torch.zeros(2, 3, 16, 24))]
    assert shapes == [(2, 8, 2, 3), (2, 6, 4, 6), (2, 4, 8, 12)][:levels]
    assert len(pyramid.up) == len(pyramid.lateral) == len(pyramid.merge) == len(shapes) - 1


def test_images_of_any_size_are_padded_to_whole_strides() -> None:
    pyramid = Pyramid((4, 6, 8), (1, 1, 1)).eval()
    inputs = torch.randn(1, 3, 13, 18)
    padded = torch.nn.functional.pad(inputs, (0, 6, 0, 3))
    assert pyramid.stride == 8
    assert all(map(torch.equal, pyramid.decode(inputs), pyramid.decode(padded)))


@pytest.mark.parametrize(("widths", "depths"), [((8, 12), (1,)), ((8,), (1,))])
def test_every_stage_has_a_width_and_a_depth(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="widths and depths must have the same length, at least 2"):
        Pyramid(widths, depths)
