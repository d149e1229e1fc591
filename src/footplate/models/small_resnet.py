"""A residual network for small images that trains in minutes on a CPU."""

from collections.abc import Sequence

from torch import Tensor, nn

from footplate.errors import ArgumentError
from footplate.models.base_module import BaseModule, InitCfg
from footplate.models.blocks import Convolution, Residual
from footplate.registry import MODELS


@MODELS.register_module()
class SmallResNet(BaseModule):
    """A backbone of one convolution and several stages of residual blocks.

    Each stage after the first one halves the resolution.

    Args:
        in_channels: The number of channels of the images.
        widths: The number of channels of each stage.
        depths: The number of residual blocks of each stage.
        stem_stride: The stride of the first convolution.
        init_cfg: See `BaseModule`.

    Raises:
        ArgumentError: `widths` and `depths` differ in length, or are empty.

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
                "widths and depths must have one length and must not be empty", key="depths", found=(widths, depths)
            )
        self.stem = Convolution(in_channels, widths[0], stride=stem_stride)
        in_widths = [widths[0], *widths]
        self.stages = nn.ModuleList(
            nn.Sequential(
                Residual(in_widths[number], width, stride=2 if number else 1),
                *(Residual(width) for _ in range(depth - 1)),
            )
            for number, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the feature maps of all stages.

        Args:
            inputs: Images ``(N, C, H, W)``.

        Returns:
            One tensor ``(N, width, H', W')`` per stage.
        """
        features = self.stem(inputs)
        outputs: list[Tensor] = []
        for stage in self.stages:
            features = stage(features)
            outputs.append(features)
        return tuple(outputs)
