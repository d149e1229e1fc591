import pytest
import torch

from footplate.errors import ArgumentError
from footplate.tasks.segmentation.segmentor import EncoderDecoder


@pytest.mark.parametrize(("widths", "depths"), [((8, 12, 16), (1, 0, 2)), ((8, 12), (1, 1))])
def test_scores_have_the_resolution_of_the_picture(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    network = EncoderDecoder(5, widths=widths, depths=depths)
    for height, width in ((3 * network.stride, 2 * network.stride), (9, 14)):
        assert network(torch.zeros(2, 3, height, width)).shape == (2, 5, height, width)


def test_the_scores_of_both_heads_add_up() -> None:
    torch.manual_seed(0)
    network, inputs = EncoderDecoder(2, widths=(8, 12), depths=(1, 1)).eval(), torch.randn(1, 3, 16, 16)
    both = network(inputs)
    alone = []
    for silent in (network.fine_head, network.coarse_head):
        kept = {name: value.clone() for name, value in silent.state_dict().items()}
        for parameter in silent.parameters():
            torch.nn.init.zeros_(parameter)
        alone.append(network(inputs))
        silent.load_state_dict(kept)
    assert torch.allclose(sum(alone), both, atol=1e-6)
    assert all(each.abs().mean() > 0.01 for each in alone)


def test_every_parameter_takes_part() -> None:
    torch.manual_seed(0)
    network = EncoderDecoder(3, widths=(8, 12, 16), depths=(1, 1, 1))
    network(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())


@pytest.mark.parametrize(("widths", "depths"), [((8, 12), (1,)), ((8,), (1,))])
def test_every_stage_needs_width_and_depth(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="a width and a depth"):
        EncoderDecoder(3, widths=widths, depths=depths)
