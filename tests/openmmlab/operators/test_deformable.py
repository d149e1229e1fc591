"""Compares deformable convolution with a loop over the definition of Zhu et al. (2019)."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from footplate.openmmlab.operators import create_extension

EXTENSION = create_extension()
UNUSED = torch.empty(0)


class Geometry(NamedTuple):
    """The settings of a convolution; pairs are vertical, horizontal."""

    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    deform_groups: int = 1

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip((height, width), *self[:4], strict=True)
        )
        return rows, columns

    def arguments(self) -> dict[str, int]:
        pairs: dict[str, int] = {}
        for name, (vertical, horizontal) in zip(("kernel", "stride", "pad", "dilation"), self[:4], strict=True):
            pairs |= {f"{name}_h": vertical, f"{name}_w": horizontal}
        return {**pairs, "group": self.groups, "deformable_group": self.deform_groups}


def sampled(channels: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Returns the values (C,) of a map (C, H, W) at a position; beyond one pixel from the map, they are constant 0."""
    height, width = channels.shape[1:]
    top, left = math.floor(y.item()), math.floor(x.item())
    total = channels.new_zeros(len(channels))
    if not (-1 < y.item() < height and -1 < x.item() < width):
        return total
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            vertical = y - top if row > top else top + 1 - y
            horizontal = x - left if column > left else left + 1 - x
            total = total + vertical * horizontal * channels[:, row, column]
    return total


def convolved(geometry: Geometry, features: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Returns the convolution (O, rows, columns) of one sample without a batch dimension."""
    kernel, stride, padding, dilation, groups, deform_groups = geometry
    rows, columns = offset.shape[1:]
    output = []
    for row, column in itertools.product(range(rows), range(columns)):
        taps = []
        for tap, (i, j) in enumerate(itertools.product(range(kernel[0]), range(kernel[1]))):
            parts = []
            for index, channels in enumerate(features.chunk(deform_groups)):
                at = index * kernel[0] * kernel[1] + tap
                y = row * stride[0] - padding[0] + i * dilation[0] + offset[2 * at, row, column]
                x = column * stride[1] - padding[1] + j * dilation[1] + offset[2 * at + 1, row, column]
                parts.append(mask[at, row, column] * sampled(channels, y, x))
            taps.append(torch.cat(parts))
        inputs = torch.stack(taps, -1).chunk(groups)
        output += [(each.flatten(1) @ part.flatten()) for each, part in zip(weight.chunk(groups), inputs, strict=True)]
    return torch.cat(output).view(rows, columns, -1).permute(2, 0, 1)


GEOMETRIES = {
    "plain": Geometry(),
    "groups": Geometry(groups=2),
    "groups of offsets": Geometry(deform_groups=2),
    "both": Geometry(groups=2, deform_groups=4),
    "stride": Geometry(kernel=(3, 2), stride=(2, 1)),
    "dilation": Geometry(kernel=(2, 3), padding=(2, 3), dilation=(3, 2)),
}


@pytest.mark.parametrize("offsets", ["random", "half pixels"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_modulated_deformable_convolution_and_its_gradients_follow_the_definition(name: str, offsets: str) -> None:
    geometry, generator = GEOMETRIES[name], torch.Generator().manual_seed(0)
    rows, columns = geometry.output_size(4, 5)
    taps = geometry.deform_groups * geometry.kernel[0] * geometry.kernel[1]
    features = torch.randn(1, 4, 4, 5, generator=generator)
    offset = 3 * torch.randn(1, 2 * taps, rows, columns, generator=generator)
    offset = offset if offsets == "random" else (2 * offset).round() / 2
    mask = torch.rand(1, taps, rows, columns, generator=generator)
    weight = torch.randn(4, 4 // geometry.groups, *geometry.kernel, generator=generator)
    cotangent = torch.randn(1, 4, rows, columns, generator=generator)
    inputs = (features, offset, mask, weight)

    exact = [each.double().requires_grad_() for each in inputs]
    expected = convolved(geometry, exact[0][0], exact[1][0], exact[2][0], exact[3])[None]
    gradients = torch.autograd.grad(expected, exact, cotangent.double())

    output, bias = torch.empty(1, 4, rows, columns), torch.zeros(4)
    settings = {**geometry.arguments(), "with_bias": False}
    arguments = (features, weight, bias, UNUSED, offset, mask)
    EXTENSION.modulated_deform_conv_forward(*arguments, output, UNUSED, **settings)
    found = [torch.empty_like(each) for each in inputs]
    of_features, of_offset, of_mask, of_weight = found
    targets = (of_features, of_weight, torch.empty(4), of_offset, of_mask)
    EXTENSION.modulated_deform_conv_backward(*arguments, UNUSED, *targets, cotangent, **settings)
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=2e-5)
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-5)
