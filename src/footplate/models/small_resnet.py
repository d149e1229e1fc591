"""A residual network for small pictures, which trains in minutes without an accelerator."""

from collections.abc import Sequence

from torch import Tensor, nn

from footplate.errors import ArgumentError
from footplate.models.base_module import BaseModule, InitCfg
from footplate.models.blocks import Convolution, Residual
from footplate.registry import MODELS


@MODELS.register_module()
class SmallResNet(BaseModule):
    """A convolution and stages of residual blocks; each stage halves the resolution of the one before.

    Args:
        in_channels: Channels of the pictures.
        widths: Channels of the stages.
        depths: Residual blocks of each stage.
        stem_stride: By how much the first convolution lowers the resolution.
        init_cfg: As of BaseModule.

    Raises:
        ArgumentError: `widths` and `depths` differ in number, or are empty.

    Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385.

    Example:
        >>> import torch
        >>> [tuple(each.shape) for each in SmallResNet(1, widths=(8, 16), depths=(1, 1))(torch.zeros(2, 1, 28, 28))]
        [(2, 8, 14, 14), (2, 16, 7, 7)]
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        widths: Sequence[int] = (32, 64, 128),
        depths: Sequence[int] = (1, 1, 1),
        stem_stride: int = 2,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(widths) != len(depths) or not widths:
            raise ArgumentError(
                "one stage or more, each with a width and a depth", key="depths", found=(widths, depths)
            )
        self.stem = Convolution(in_channels, widths[0], stride=stem_stride)
        before = [widths[0], *widths]
        self.stages = nn.ModuleList(
            nn.Sequential(
                Residual(before[number], width, stride=2 if number else 1),
                *(Residual(width) for _ in range(depth - 1)),
            )
            for number, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the feature maps of all stages, ``(N, width, H, W)`` each, for pictures ``(N, C, H, W)``."""
        features = self.stem(inputs)
        found: list[Tensor] = []
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        return tuple(found)
