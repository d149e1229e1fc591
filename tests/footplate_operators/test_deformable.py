"""Compares deformable convolution with plain convolution, and its gradients at pixel centers with differences."""

from typing import Any

import pytest
import torch

from footplate_operators import create_extension
from footplate_operators.attention import multi_scale_deformable_attn_pytorch

EXTENSION = create_extension()
UNUSED = torch.empty(0)
Pair = tuple[int, int]


def arguments(kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, **groups: int) -> dict[str, Any]:
    pairs = {"kernel": kernel, "stride": stride, "pad": padding, "dilation": dilation}
    found = {f"{name}_{side}": size for name, pair in pairs.items() for side, size in zip("hw", pair, strict=True)}
    return {**found, **groups, "with_bias": False}


def test_gradient_at_a_pixel_center_is_that_of_the_following_interval() -> None:
    features, weight = torch.tensor([1.0, 2, 4, 7, 11, 16]).view(1, 1, 1, 6), torch.ones(1, 1, 1, 1)
    offset, mask = torch.zeros(1, 2, 1, 6), torch.ones(1, 1, 1, 6)
    offset[0, 1, 0, 0] = -1  # one pixel before the map, where the gradient is zero
    found = [torch.empty_like(each) for each in (features, weight, UNUSED, offset, mask)]
    settings = arguments((1, 1), (1, 1), (0, 0), (1, 1), group=1, deformable_group=1)
    inputs = (features, weight, UNUSED, UNUSED, offset, mask, UNUSED)
    EXTENSION.modulated_deform_conv_backward(*inputs, *found, torch.ones(1, 1, 1, 6), **settings)
    assert found[3][0, 1, 0].tolist() == pytest.approx([0, 2, 3, 4, 5, -16])


def test_attention_with_more_levels_than_its_input_uses_the_first_values_in_memory() -> None:
    values = torch.tensor([1.0, 2, 4, 8]).view(1, 4, 1, 1)
    shapes = torch.tensor([[1, 4]])
    # Two queries with two levels each. The compiled operator reads the second level of the first query as the second.
    pixels = torch.tensor([[0.0, 1], [2, 3]])
    locations = torch.stack(((pixels + 0.5) / 4, torch.full((2, 2), 0.5)), -1).view(1, 2, 1, 2, 1, 2)
    weights = torch.tensor([10.0, 100, 1000, 10000]).view(1, 2, 1, 2, 1).requires_grad_()
    with pytest.warns(UserWarning, match="the attention has 2 levels, but its input has 1"):
        attended = multi_scale_deformable_attn_pytorch(values, shapes, locations, weights)
    assert attended.flatten().tolist() == pytest.approx([10, 200])
    attended.sum().backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    assert weights.grad.flatten().tolist() == pytest.approx([1, 2, 0, 0])
    with pytest.raises(ValueError, match="longer"):
        multi_scale_deformable_attn_pytorch(values, torch.tensor([[1, 2], [1, 1], [1, 1]]), locations, weights)


def test_attention_on_a_map_uses_the_first_sizes_in_memory_of_a_grid() -> None:
    values, weights = torch.arange(12.0).view(1, 12, 1, 1), torch.ones(1, 1, 1, 1, 1)
    location = torch.tensor([(1 + 0.5) / 3, (1 + 0.5) / 2]).view(1, 1, 1, 1, 1, 2)
    with pytest.warns(UserWarning, match="the attention has 2 coordinates, but its input has 3 sizes for each level"):
        attended = multi_scale_deformable_attn_pytorch(values, torch.tensor([[2, 3, 2]]), location, weights)
    assert attended.item() == pytest.approx(4)
