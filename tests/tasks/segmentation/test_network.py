import pytest
import torch

from footplate.errors import ArgumentError
from footplate.tasks.segmentation.network import EncoderDecoder


@pytest.mark.parametrize(("widths", "depths"), [((8, 12, 16), (1, 0, 2)), ((8, 12), (1, 1))])
def test_scores_have_the_resolution_of_the_picture(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    network = EncoderDecoder(5, widths=widths, depths=depths)
    for height, width in ((3 * network.stride, 2 * network.stride), (9, 14)):
        scores = network(torch.zeros(2, 3, height, width))
        padded = [-(-each // network.stride) * 2 for each in (height, width)]
        assert scores.full.shape == (2, 5, height, width)
        assert scores.coarse.shape == (2, 5, *padded)


def test_coarse_scores_are_a_part_of_the_full_ones() -> None:
    network = EncoderDecoder(2, widths=(8, 12), depths=(1, 1)).eval()
    for parameter in network.fine_head.parameters():
        torch.nn.init.zeros_(parameter)
    scores = network(torch.randn(1, 3, 16, 16))
    expected = torch.nn.functional.interpolate(scores.coarse, (16, 16), mode="bilinear")
    assert torch.equal(scores.full, expected)
    assert network.coarse_stride == 16 // scores.coarse.shape[-1]


def test_every_parameter_takes_part() -> None:
    torch.manual_seed(0)
    network = EncoderDecoder(3, widths=(8, 12, 16), depths=(1, 1, 1))
    network(torch.randn(2, 3, 16, 16)).full.square().sum().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())


@pytest.mark.parametrize(("widths", "depths"), [((8, 12), (1,)), ((8,), (1,))])
def test_every_stage_needs_width_and_depth(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="a width and a depth"):
        EncoderDecoder(3, widths=widths, depths=depths)
