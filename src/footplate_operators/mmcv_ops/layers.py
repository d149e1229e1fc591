"""Losses, upsampling and other layers.

Sources: Lin et al., Focal Loss (2017); Wang et al., CARAFE (2019); Law and Deng, CornerNet (2018); Karras et al.,
StyleGAN2 (2020); Shao et al., Temporal Interlacing Network (2020).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate_operators.functional import (
    carafe,
    fused_bias_leakyrelu,
    sigmoid_focal_loss,
    softmax_focal_loss,
    tin_shift,
)
from footplate_operators.mmcv_ops.settings import Settings


class SigmoidFocalLoss(nn.Module):
    """Computes the focal loss of the sigmoid.

    Args:
        gamma: The exponent.
        alpha: The weight of positive samples.
        weight: A factor for each class, of shape (C,).
        reduction: "none", "mean" (the sum divided by the number of samples) or "sum".
    """

    weight: Tensor | None

    def __init__(self, gamma: float, alpha: float, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.register_buffer("weight", weight)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Returns the loss of logits of shape (N, C) for class indices of shape (N,); index C is the background."""
        return sigmoid_focal_loss(input, target, self.gamma, self.alpha, self.weight, self.reduction)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, alpha={self.alpha}, reduction={self.reduction}"


class SoftmaxFocalLoss(SigmoidFocalLoss):
    """Computes the focal loss of the softmax. See `SigmoidFocalLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Returns the loss of logits of shape (N, C) for class indices of shape (N,)."""
        return softmax_focal_loss(input, target, self.gamma, self.alpha, self.weight, self.reduction)


@dataclass(eq=False, repr=False)
class CARAFENaive(Settings):
    """Upsamples features with a separate kernel for each output pixel.

    Args:
        kernel_size: The kernel size.
        group_size: The number of groups of channels with separate kernels.
        scale_factor: The upsampling factor.
    """

    kernel_size: int
    group_size: int
    scale_factor: int

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Upsamples features of shape (N, C, H, W).

        The kernels, `masks`, have shape (N, group_size * kernel_size ** 2, scale_factor * H, scale_factor * W).
        """
        return carafe(features, masks, *self.values())


class CARAFE(CARAFENaive):
    """See `CARAFENaive`."""


@dataclass(eq=False, repr=False)
class CARAFEPack(Settings):
    """Upsamples features with kernels that are predicted from the features.

    Args:
        channels: The number of channels.
        scale_factor: The upsampling factor.
        up_kernel: The size of the predicted kernels.
        up_group: The number of groups of channels with separate kernels.
        encoder_kernel: The kernel size of the layer that predicts kernels.
        encoder_dilation: The dilation of this layer.
        compressed_channels: The number of input channels of this layer.
    """

    channels: int
    scale_factor: int
    up_kernel: int = 5
    up_group: int = 1
    encoder_kernel: int = 3
    encoder_dilation: int = 1
    compressed_channels: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self.channel_compressor = nn.Conv2d(self.channels, self.compressed_channels, 1)
        self.content_encoder = nn.Conv2d(
            self.compressed_channels,
            self.up_group * (self.up_kernel * self.scale_factor) ** 2,
            self.encoder_kernel,
            padding=(self.encoder_kernel - 1) * self.encoder_dilation // 2,
            dilation=self.encoder_dilation,
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Initializes the weights so that the kernels are nearly uniform."""
        for layer in (self.channel_compressor, self.content_encoder):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.content_encoder.weight, std=0.001)

    def kernel_normalizer(self, mask: Tensor) -> Tensor:
        """Converts the output of the encoder to kernels that sum to 1."""
        mask = F.pixel_shuffle(mask, self.scale_factor)
        kernels = mask.view(len(mask), -1, self.up_kernel**2, *mask.shape[2:])
        return kernels.softmax(2).flatten(1, 2)

    def feature_reassemble(self, x: Tensor, mask: Tensor) -> Tensor:
        """Upsamples features with the kernels `mask`."""
        return carafe(x, mask, self.up_kernel, self.up_group, self.scale_factor)

    def forward(self, x: Tensor) -> Tensor:
        """Upsamples features of shape (N, C, H, W)."""
        mask = self.kernel_normalizer(self.content_encoder(self.channel_compressor(x)))
        return self.feature_reassemble(x, mask)


class CornerPool(nn.Module):
    """Replaces each value by the largest one from the border to its position.

    `mode` is the direction in which values move: "bottom", "left", "right" or "top".
    """

    def __init__(self, mode: str) -> None:
        super().__init__()
        if mode not in ("bottom", "left", "right", "top"):
            raise ValueError(f"mode must be 'bottom', 'left', 'right' or 'top', but is {mode!r}.")
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """Pools features of shape (N, C, H, W)."""
        dim = 2 if self.mode in ("bottom", "top") else 3
        if self.mode in ("bottom", "right"):
            return x.cummax(dim)[0]
        return x.flip(dim).cummax(dim)[0].flip(dim)


class FusedBiasLeakyReLU(nn.Module):
    """Adds a learned bias to each channel, applies a leaky ReLU, and multiplies by `scale`."""

    def __init__(self, num_channels: int, negative_slope: float = 0.2, scale: float = 2**0.5) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.negative_slope = negative_slope
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:
        return fused_bias_leakyrelu(input, self.bias, self.negative_slope, self.scale)


class TINShift(nn.Module):
    """Moves groups of channels along time. See `tin_shift`."""

    def forward(self, input: Tensor, shift: Tensor) -> Tensor:
        return tin_shift(input, shift)


class SyncBatchNorm(nn.SyncBatchNorm):
    """PyTorch's synchronized batch normalization with mmcv's arguments.

    Raises:
        NotImplementedError: `stats_mode` is "N", which weights the statistics of processes by their number of samples.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        group: object = None,
        stats_mode: str = "default",
    ) -> None:
        if stats_mode != "default":
            raise NotImplementedError("SyncBatchNorm implements only stats_mode='default'.")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, group)
