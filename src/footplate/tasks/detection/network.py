"""The small pyramid network of `SmallDetector`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from footplate.errors import ArgumentError
from footplate.models import Convolution
from footplate.tasks.pyramid import Pyramid

_PRIOR = 0.01  # the initial probability of each class


class Grid(NamedTuple):
    """The predictions at the P positions of all levels.

    Attributes:
        scores: ``(N, P, C)``, before the sigmoid.
        boxes: ``(N, P, 4)``, x1 y1 x2 y2 in pixels of the network's input.
        points: ``(P, 2)``, the centres of the positions, x y in pixels.
        strides: ``(P,)``, the stride of the level of each position, in pixels.
    """

    scores: Tensor
    boxes: Tensor
    points: Tensor
    strides: Tensor


class PyramidDetector(Pyramid):
    """A feature pyramid with a prediction head at each level.

    A box is predicted as the four distances from the position to its sides, in units of the stride.

    Args:
        num_classes: The number of classes.
        widths: See `Pyramid`.
        depths: See `Pyramid`.
        levels: How many of the deepest stages have a head.
        head_width: The number of channels in a head.

    Raises:
        ArgumentError: `widths` and `depths` differ in length, or `levels` is not positive and below their length.

    Source: Tian et al., "FCOS", arXiv:1904.01355.

    Example:
        >>> network = PyramidDetector(10, widths=(8, 8, 8), depths=(1, 1, 1), levels=2, head_width=8)
        >>> grid = network(torch.zeros(1, 3, 64, 64))
        >>> grid.scores.shape, grid.boxes.shape
        (torch.Size([1, 320, 10]), torch.Size([1, 320, 4]))
    """

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int],
        depths: Sequence[int],
        levels: int,
        head_width: int,
    ) -> None:
        if len(widths) != len(depths) or not 1 <= levels < len(widths):
            raise ArgumentError(
                "each stage has a width and a depth, and the first has no head", key="depths", found=(widths, depths)
            )
        super().__init__(widths, depths, levels=levels)
        self.heads = nn.ModuleList(_Head(width, num_classes, head_width) for width in widths[: -levels - 1 : -1])

    def forward(self, inputs: Tensor) -> Grid:
        """Returns classes and boxes at every position for images ``(N, 3, H, W)`` of any size."""
        found = [
            head(level, self.stride >> place)
            for place, (head, level) in enumerate(zip(self.heads, self.decode(inputs), strict=True))
        ]
        scores, boxes, points, strides = zip(*found, strict=True)
        return Grid(torch.cat(scores, 1), torch.cat(boxes, 1), torch.cat(points), torch.cat(strides))


class _Head(nn.Module):
    """A head with a shared convolution, and one branch each for classes and boxes."""

    def __init__(self, in_channels: int, num_classes: int, channels: int) -> None:
        super().__init__()
        self.shared = Convolution(in_channels, channels)
        self.to_class = nn.Sequential(Convolution(channels, channels), nn.Conv2d(channels, num_classes, 1))
        self.to_box = nn.Sequential(Convolution(channels, channels), nn.Conv2d(channels, 4, 1))
        bias = self.to_class[-1].bias
        nn.init.constant_(bias, math.log(_PRIOR / (1 - _PRIOR)))  # type: ignore[arg-type]

    def forward(self, features: Tensor, stride: int) -> Grid:
        shared = self.shared(features)
        scores = self.to_class(shared).flatten(2).transpose(1, 2)
        # Computed in float32 even under autocast. The factor 2 makes the initial boxes four strides wide.
        sides = 2 * stride * self.to_box(shared).flatten(2).transpose(1, 2).float().clamp(max=6).exp()
        points = _points(features.shape[-2], features.shape[-1], stride, features.device)
        boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], dim=-1)
        return Grid(scores.float(), boxes, points, torch.full_like(points[:, 0], stride))


def _points(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Returns the centres of the positions of one level, ``(H * W, 2)``, x y in pixels."""
    rows = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride
    columns = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)
