from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError
from footplate.models import Convolution, Residual, SmallResNet
from footplate.registry import MODELS


def test_convolution_keeps_or_halves_the_size() -> None:
    inputs = torch.randn(2, 3, 8, 6)
    assert Convolution(3, 5)(inputs).shape == (2, 5, 8, 6)
    assert Convolution(3, 5, stride=2)(inputs).shape == (2, 5, 4, 3)
    assert Convolution(3, 5, size=1)(inputs).min() == 0


def test_residual_block_with_zero_weights_returns_its_input() -> None:
    block = Residual(4).eval()
    torch.nn.init.zeros_(block.second.weight)
    inputs = torch.rand(1, 4, 6, 6)
    assert torch.equal(block(inputs), inputs)


def test_shortcut_with_a_stride_is_a_convolution() -> None:
    block = Residual(3, 5, stride=2).eval()
    torch.nn.init.zeros_(block.second.weight)
    inputs = torch.randn(2, 3, 8, 6)
    assert torch.equal(block(inputs), torch.relu(block.shortcut(inputs)))
    assert block(inputs).shape == (2, 5, 4, 3)


def test_identity_shortcut_has_no_parameters() -> None:
    kept = [name for name, _ in Residual(4).named_parameters()]
    assert kept == ["first.0.weight", "first.1.weight", "first.1.bias", "second.weight", "norm.weight", "norm.bias"]


@pytest.mark.parametrize(
    ("stem_stride", "size", "expected"),
    [(2, 28, [(3, 8, 14, 14), (3, 12, 7, 7), (3, 16, 4, 4)]), (1, 9, [(3, 8, 9, 9), (3, 12, 5, 5), (3, 16, 3, 3)])],
)
def test_each_stage_halves_the_resolution(stem_stride: int, size: int, expected: list[tuple[int, ...]]) -> None:
    network = SmallResNet(1, widths=(8, 12, 16), depths=(1, 2, 1), stem_stride=stem_stride)
    assert [tuple(each.shape) for each in network(torch.zeros(3, 1, size, size))] == expected


def test_depths_set_the_number_of_blocks() -> None:
    network = MODELS.build({"type": "SmallResNet", "in_channels": 1, "widths": (4, 4), "depths": (3, 2)})
    assert [len(stage) for stage in network.stages] == [3, 2]


def test_blocks_with_zero_weights_return_their_input() -> None:
    network = SmallResNet(1, widths=(4,), depths=(2,)).eval()
    stage: Any = network.stages[0]
    for block in stage:
        torch.nn.init.zeros_(block.norm.weight)
    inputs = torch.randn(2, 1, 8, 8)
    assert torch.equal(network(inputs)[0], network.stem(inputs))


def test_every_parameter_has_a_gradient() -> None:
    network = SmallResNet(1, widths=(4, 6, 8), depths=(1, 2, 1))
    network(torch.randn(2, 1, 28, 28))[-1].sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("widths", "depths"), [((8, 8), (1,)), ((), ())])
def test_widths_and_depths_must_have_one_length(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="widths and depths must have the same length"):
        SmallResNet(1, widths=widths, depths=depths)
