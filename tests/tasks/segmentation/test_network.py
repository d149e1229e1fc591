import pytest
import torch

from footplate.errors import ArgumentError
from footplate.tasks.segmentation.network import EncoderDecoder


@pytest.mark.parametrize(("widths", "depths"), [((8, 12, 16), (1, 0, 2)), ((8,), (1,))])
def test_scores_have_the_resolution_of_the_picture(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    network = EncoderDecoder(5, widths=widths, depths=depths)
    for height, width in ((3 * network.stride, 2 * network.stride), (9, 14)):
        assert network(torch.zeros(2, 3, height, width)).shape == (2, 5, height, width)


def test_every_parameter_takes_part() -> None:
    torch.manual_seed(0)
    network = EncoderDecoder(3, widths=(8, 12, 16), depths=(1, 1, 1))
    network(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())


def test_every_stage_needs_width_and_depth() -> None:
    with pytest.raises(ArgumentError, match="a width and a depth"):
        EncoderDecoder(3, widths=(8, 12), depths=(1,))
