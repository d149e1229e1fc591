"""Attention layers.

Sources: Zhu et al., Deformable DETR (2021); Huang et al., CCNet (2019); Zhao et al., PSANet (2018).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from footplate_operators.functional import multi_scale_deformable_attn, psa_mask
from footplate_operators.sizes import Pair, pair


class MultiScaleDeformableAttnFunction:
    """The operator of multi-scale deformable attention. mmcv's class is an autograd function, so it has `apply`."""

    apply = staticmethod(multi_scale_deformable_attn)


class MultiScaleDeformableAttention(nn.Module):
    """Attends to a few points around a reference point in each level of a feature pyramid.

    Args:
        embed_dims: The number of channels of the queries.
        num_heads: The number of heads.
        num_levels: The number of levels of the pyramid.
        num_points: The number of points in each level.
        im2col_step: Ignored.
        dropout: The dropout rate of the output.
        batch_first: Whether tensors have shape (N, queries, channels) instead of (queries, N, channels).
        norm_cfg: Ignored, as in mmcv.
        init_cfg: Ignored, as in mmcv: the class has its own initialization.
        value_proj_ratio: The number of channels of the values, relative to `embed_dims`.

    Raises:
        ValueError: `embed_dims` is not divisible by `num_heads`.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        im2col_step: int = 64,
        dropout: float = 0.1,
        batch_first: bool = False,
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
        value_proj_ratio: float = 1.0,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f"embed_dims must be divisible by num_heads, but got {embed_dims} and {num_heads}.")
        self.norm_cfg = norm_cfg
        self.dropout = nn.Dropout(dropout)
        self.batch_first = batch_first
        self.im2col_step = im2col_step
        self.embed_dims = embed_dims
        self.num_levels = num_levels
        self.num_heads = num_heads
        self.num_points = num_points
        self.sampling_offsets = nn.Linear(embed_dims, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(embed_dims, num_heads * num_levels * num_points)
        value_channels = int(embed_dims * value_proj_ratio)
        self.value_proj = nn.Linear(embed_dims, value_channels)
        self.output_proj = nn.Linear(value_channels, embed_dims)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Initializes the weights: the points of a head lie in one direction, at distances of 1, 2 and so on."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        angles = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        directions = torch.stack((angles.cos(), angles.sin()), -1)
        directions /= directions.abs().amax(-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        offsets = (directions[:, None, None] * distances[:, None]).expand(-1, self.num_levels, -1, -1)
        self.sampling_offsets.bias.copy_(offsets.flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        level_start_index: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Returns the attention plus `identity`, with the shape of `query`.

        Args:
            query: Of shape (queries, N, embed_dims), or (N, queries, embed_dims) with `batch_first`.
            key: Ignored.
            value: The features of all levels, of shape (pixels, N, embed_dims), or with N first. By default the query.
            identity: What to add to the output, by default the query.
            query_pos: The position encoding, which is added to the query.
            key_padding_mask: True for pixels that are padding, of shape (N, pixels).
            reference_points: The points, as fractions of the levels' sizes, of shape (N, queries, levels, 2), x before
                y; or boxes, of shape (N, queries, levels, 4), with the width and the height.
            spatial_shapes: The height and width of each level, of shape (levels, 2).
            level_start_index: The index of each level's first pixel, of shape (levels,).
            kwargs: Ignored.

        Raises:
            ValueError: An argument is missing or its shape is wrong.
        """
        value = query if value is None else value
        identity = query if identity is None else identity
        if query_pos is not None:
            query = query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        if reference_points is None or spatial_shapes is None or level_start_index is None:
            raise ValueError("Pass reference_points, spatial_shapes and level_start_index.")
        count, queries, _ = query.shape
        value = self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0)
        value = value.unflatten(-1, (self.num_heads, -1))
        points = (count, queries, self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(*points, 2)
        weights = self.attention_weights(query).view(*points[:3], -1).softmax(-1).view(points)
        references = reference_points[:, :, None, :, None]
        if reference_points.size(-1) == 2:
            locations = references + offsets / spatial_shapes.flip(1)[:, None]
        elif reference_points.size(-1) == 4:
            locations = references[..., :2] + offsets / self.num_points * references[..., 2:] / 2
        else:
            raise ValueError(f"reference_points must have 2 or 4 columns, but has {reference_points.size(-1)}.")
        output = multi_scale_deformable_attn(
            value, spatial_shapes, level_start_index, locations, weights, self.im2col_step
        )
        output = self.output_proj(output)
        if not self.batch_first:
            output = output.transpose(0, 1)
        dropped: Tensor = self.dropout(output)
        return dropped + identity


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class CrissCrossAttention(nn.Module):
    """Attends to all pixels in the same row and column. The input is added to the output, which starts at zero."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(in_channels, in_channels // 8, 1)
        self.key_conv = nn.Conv2d(in_channels, in_channels // 8, 1)
        self.value_conv = nn.Conv2d(in_channels, in_channels, 1)
        self.gamma = _Scale()
        self.in_channels = in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Returns a tensor with the shape of `x`, (N, C, H, W)."""
        query, key, value = self.query_conv(x), self.key_conv(x), self.value_conv(x)
        height = x.size(2)
        columns = torch.einsum("bchw,bciw->bhwi", query, key)
        # The pixel itself counts once, as part of its row.
        itself = torch.eye(height, dtype=torch.bool, device=x.device)[:, None]
        columns = columns.masked_fill(itself, float("-inf"))
        rows = torch.einsum("bchw,bchj->bhwj", query, key)
        attention = torch.cat((columns, rows), -1).softmax(-1)
        output = torch.einsum("bciw,bhwi->bchw", value, attention[..., :height])
        output = output + torch.einsum("bchj,bhwj->bchw", value, attention[..., height:])
        scaled: Tensor = self.gamma(output)
        return scaled + x

    def extra_repr(self) -> str:
        return f"in_channels={self.in_channels}"


class PSAMask(nn.Module):
    """Converts PSA masks to an attention map.

    Args:
        psa_type: "collect" or "distribute".
        mask_size: The height and width of a mask. It is required, although mmcv's default is None.

    Raises:
        ValueError: An argument is not one of these values.
    """

    def __init__(self, psa_type: str, mask_size: Pair | None = None) -> None:
        super().__init__()
        if psa_type not in ("collect", "distribute"):
            raise ValueError(f"psa_type must be 'collect' or 'distribute', but is {psa_type!r}.")
        if mask_size is None:
            raise ValueError("Pass mask_size, the height and width of a mask.")
        self.psa_type = psa_type
        self.mask_size = pair(mask_size)

    def forward(self, input: Tensor) -> Tensor:
        """Converts masks of shape (N, mask height * mask width, H, W) to a map of shape (N, H * W, H, W)."""
        return psa_mask(input, self.psa_type, self.mask_size)

    def extra_repr(self) -> str:
        return f"psa_type={self.psa_type}, mask_size={self.mask_size}"
