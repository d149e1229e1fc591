"""Convolutions: deformable, masked and switchable ones.

Sources: Dai et al., Deformable Convolutional Networks (2017); Zhu et al., Deformable ConvNets v2 (2019); Wang et al.,
Region Proposal by Guided Anchoring (2019); Qiao et al., DetectoRS (2020).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate_operators.functional import deform_conv2d, masked_conv2d, modulated_deform_conv2d
from footplate_operators.sizes import Pair, pair


class _DeformableConvolution(nn.Module):
    """The settings that both kinds of deformable convolutions share."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
        deform_groups: int,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{in_channels} input and {out_channels} output channels must be divisible by {groups=}.")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = pair(kernel_size)
        self.stride = pair(stride)
        self.padding = pair(padding)
        self.dilation = pair(dilation)
        self.groups = groups
        self.deform_groups = deform_groups
        self.transposed = False
        self.output_padding = (0,)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))

    def _offset_layer(self, values: int) -> nn.Conv2d:
        """Creates the layer that predicts `values` numbers for each position of the kernel. They are zero at first."""
        channels = self.deform_groups * values * self.kernel_size[0] * self.kernel_size[1]
        layer = nn.Conv2d(
            self.in_channels, channels, self.kernel_size, self.stride, self.padding, self.dilation, bias=True
        )
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
        return layer

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, "
            f"deform_groups={self.deform_groups}"
        )


class _Pack(nn.Module):
    """A convolution that predicts its offsets with the layer `conv_offset`."""

    _version = 2

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        """Renames the keys of MMDetection 1.x, where the layer is `NAME_offset` instead of `NAME.conv_offset`."""
        if local_metadata.get("version") is None or local_metadata["version"] < 2:
            for name in ("weight", "bias"):
                old, new = f"{prefix[:-1]}_offset.{name}", f"{prefix}conv_offset.{name}"
                if old in state_dict and new not in state_dict:
                    state_dict[new] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class DeformConv2d(_DeformableConvolution):
    """Applies a deformable convolution. It has no bias, so `bias` must be False.

    Args:
        in_channels: The number of input channels.
        out_channels: The number of output channels.
        kernel_size: The kernel size.
        stride: The stride.
        padding: The padding.
        dilation: The dilation.
        groups: The number of groups of channels.
        deform_groups: The number of groups of channels with separate offsets.
        bias: Must be False.
        im2col_step: Ignored.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
        im2col_step: int = 32,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, deform_groups)
        if bias:
            raise ValueError("DeformConv2d has no bias. Set bias=False, or use ModulatedDeformConv2d.")
        self.im2col_step = im2col_step
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weight from Kaiming's uniform distribution for ReLU."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolves features of shape (N, C, H, W). Features that are smaller than the kernel are padded.

        `offset` has shape (N, deform_groups * kernel * 2, rows, columns), y before x.
        """
        # mmcv pads features, not only up to the kernel, and crops the result by the same size.
        missing = [max(size - length, 0) for size, length in zip(self.kernel_size, x.shape[2:], strict=True)]
        if any(missing):
            border = (0, missing[1], 0, missing[0])
            x, offset = F.pad(x, border), F.pad(offset, border)
        settings = (self.stride, self.padding, self.dilation, self.groups, self.deform_groups, False, self.im2col_step)
        output = deform_conv2d(x, offset, self.weight, *settings)
        return output[:, :, : output.size(2) - missing[0], : output.size(3) - missing[1]] if any(missing) else output


class DeformConv2dPack(_Pack, DeformConv2d):
    """Predicts the offsets of a deformable convolution with another convolution. See `DeformConv2d`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conv_offset = self._offset_layer(2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, self.conv_offset(x))


class ModulatedDeformConv2d(_DeformableConvolution):
    """Applies a modulated deformable convolution. See `DeformConv2d`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool | str = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, deform_groups)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.init_weights()

    def init_weights(self) -> None:
        """Draws the weight from a uniform distribution, and sets the bias to zero."""
        limit = 1 / math.sqrt(self.in_channels * self.kernel_size[0] * self.kernel_size[1])
        nn.init.uniform_(self.weight, -limit, limit)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolves features of shape (N, C, H, W).

        `offset` has shape (N, deform_groups * kernel * 2, rows, columns), y before x, and `mask` has shape
        (N, deform_groups * kernel, rows, columns).
        """
        settings = (self.stride, self.padding, self.dilation, self.groups, self.deform_groups)
        return modulated_deform_conv2d(x, offset, mask, self.weight, self.bias, *settings)


class ModulatedDeformConv2dPack(_Pack, ModulatedDeformConv2d):
    """Predicts the offsets and the mask with another convolution. See `ModulatedDeformConv2d`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conv_offset = self._offset_layer(3)
        super().init_weights()  # again, as in mmcv: with the same seed, the weight is the same

    def init_weights(self) -> None:
        """Also sets the layer that predicts offsets to zero."""
        super().init_weights()
        for parameter in self.conv_offset.parameters() if hasattr(self, "conv_offset") else ():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        first, second, mask = self.conv_offset(x).chunk(3, 1)
        return super().forward(x, torch.cat((first, second), 1), mask.sigmoid())


class MaskedConv2d(nn.Conv2d):
    """Applies a convolution only where a mask is positive. Elsewhere, the result is zero."""

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves features of shape (1, C, H, W). The mask has shape (1, rows, columns); None means everywhere."""
        if mask is None:
            return super().forward(input)
        assert not isinstance(self.padding, str)
        bias = self.weight.new_zeros(self.out_channels) if self.bias is None else self.bias
        return masked_conv2d(input, mask, self.weight, bias, pair(self.padding), pair(self.stride))


class SAConv2d(nn.Conv2d):
    """Applies a switchable atrous convolution: mixes the results for the dilation and three times the dilation.

    Both convolutions share a weight that is standardized; the second one adds `weight_diff`.

    Args:
        in_channels: The number of input channels.
        out_channels: The number of output channels.
        kernel_size: The kernel size.
        stride: The stride.
        padding: The padding.
        dilation: The dilation.
        groups: The number of groups of channels.
        bias: Whether there is a bias. As in mmcv, it is not used.
        use_deform: Whether the convolutions are deformable, which needs a kernel size of 3.
    """

    weight_gamma: Tensor
    weight_beta: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        use_deform: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.register_buffer("weight_gamma", torch.ones(out_channels, 1, 1, 1))
        self.register_buffer("weight_beta", torch.zeros(out_channels, 1, 1, 1))
        self.use_deform = use_deform
        self.switch = nn.Conv2d(in_channels, 1, 1, stride=stride, bias=True)
        self.weight_diff = nn.Parameter(torch.zeros_like(self.weight))
        self.pre_context = nn.Conv2d(in_channels, in_channels, 1, bias=True)
        self.post_context = nn.Conv2d(out_channels, out_channels, 1, bias=True)
        if use_deform:
            self.offset_s = nn.Conv2d(in_channels, 18, 3, padding=1, stride=stride, bias=True)
            self.offset_l = nn.Conv2d(in_channels, 18, 3, padding=1, stride=stride, bias=True)
        for layer in self.children():
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        assert self.switch.bias is not None
        nn.init.ones_(self.switch.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pre_context(F.adaptive_avg_pool2d(x, 1))
        nearby = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), "reflect"), 5, stride=1)
        switch = self.switch(nearby)
        mean, deviation = self._statistics()
        weight = self.weight_gamma * (self.weight - mean) / deviation + self.weight_beta
        small = self._convolve(x, nearby, "offset_s", weight, 1)
        large = self._convolve(x, nearby, "offset_l", weight + self.weight_diff, 3)
        output: Tensor = switch * small + (1 - switch) * large
        context: Tensor = self.post_context(F.adaptive_avg_pool2d(output, 1))
        return output + context

    def _statistics(self) -> tuple[Tensor, Tensor]:
        rows = self.weight.flatten(1)
        return rows.mean(1)[:, None, None, None], (rows.var(1) + 1e-5).sqrt()[:, None, None, None]

    def _convolve(self, x: Tensor, nearby: Tensor, offset_layer: str, weight: Tensor, factor: int) -> Tensor:
        assert not isinstance(self.padding, str)
        (top, left), (down, across) = pair(self.padding), pair(self.dilation)
        padding, dilation = (factor * top, factor * left), (factor * down, factor * across)
        if self.use_deform:
            offset = getattr(self, offset_layer)(nearby)
            return deform_conv2d(x, offset, weight, pair(self.stride), padding, dilation, self.groups, 1)
        return F.conv2d(x, weight, None, self.stride, padding, dilation, self.groups)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Sets the mean and the deviation to those of the weight if it comes from an ordinary convolution."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        if f"{prefix}weight_gamma" not in state_dict and f"{prefix}weight" in state_dict:
            mean, deviation = self._statistics()
            self.weight_gamma.copy_(deviation.detach())
            self.weight_beta.copy_(mean.detach())
