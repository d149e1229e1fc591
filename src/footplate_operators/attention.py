"""Operators of research code that sample image features: attention of Deformable DETR, MapTR and Sparse4D.

Sources: Zhu et al., Deformable DETR (2021); Liao et al., MapTR (2023); Lin et al., Sparse4D v2 (2023).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from footplate_operators import deformable
from footplate_operators.deformable import ms_deform_attn_forward
from footplate_operators.sampling import gradients, operators


def multi_scale_deformable_attn_pytorch(
    value: Tensor, value_spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Like mmcv's function of this name, but also attends to grids, and accepts locations for more levels.

    See `ms_deform_attn_forward`.
    """
    value_spatial_shapes = torch.as_tensor(value_spatial_shapes, device=value.device)
    sizes = value_spatial_shapes.prod(1)
    starts = sizes.cumsum(0) - sizes
    return ms_deform_attn_forward(value, value_spatial_shapes, starts, sampling_locations, attention_weights, 1)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    im2col_step: int,
) -> list[Tensor]:
    """Returns the gradients of `ms_deform_attn_forward` with respect to the values, locations and weights."""
    found = [torch.empty_like(each) for each in (value, sampling_locations, attention_weights)]
    inputs = value, value_spatial_shapes, value_level_start_index, sampling_locations, attention_weights
    deformable.ms_deform_attn_backward(*inputs, grad_output, found[0], found[1], found[2], im2col_step)
    return found


def geometric_kernel_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Like `ms_deform_attn_forward` on maps, but the locations are pixels, as int64, and there is no interpolation.

    Locations outside a map are moved to its border.
    """
    count, _, heads, channels = value.shape
    queries = sampling_locations.size(1)
    height, width = spatial_shapes[:, None].unbind(-1)  # (levels, 1)
    x, y = sampling_locations.unbind(-1)
    rows = level_start_index[:, None] + y.clamp(min=0).minimum(height - 1) * width + x.clamp(min=0).minimum(width - 1)
    rows = rows.permute(0, 2, 1, 3, 4).reshape(count, heads, -1, 1).expand(-1, -1, -1, channels)
    sampled = value.transpose(1, 2).gather(2, rows).view(count, heads, queries, -1, channels)
    weights = attention_weights.transpose(1, 2).flatten(3)
    return torch.einsum("nhqpc,nhqp->nqhc", sampled, weights).flatten(2)


def geometric_kernel_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    im2col_step: int,
) -> list[Tensor]:
    """Returns the gradients with respect to the values and the attention weights."""

    def attend(value: Tensor, weights: Tensor) -> Tensor:
        return geometric_kernel_attn_forward(
            value, spatial_shapes, level_start_index, sampling_locations, weights, im2col_step
        )

    return [*gradients(attend, (value, attention_weights), grad_output)]


def deformable_aggregation_forward(
    features: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """Sums the image features at the projected key points of each anchor. Returns a tensor of shape (N, anchors, C).

    Args:
        features: The features of all levels of all cameras, of shape (N, pixels, C).
        shapes: The height and width of each level, of shape (cameras, levels, 2).
        starts: The index of each level's first pixel, of shape (cameras, levels).
        locations: The x and y coordinates from 0 to 1, of shape (N, anchors, points, cameras, 2). Points outside an
            image or on its border are skipped.
        weights: Weights of shape (N, anchors, points, cameras, levels, groups of channels).
    """
    count, anchors, channels = len(features), locations.size(1), features.size(-1)
    inside = ((locations > 0) & (locations < 1)).all(-1, keepdim=True)
    grids = torch.where(inside, 2 * locations - 1, -3)
    total = features.new_zeros(count, channels, anchors)
    for camera, (sizes, firsts) in enumerate(zip(shapes.tolist(), starts.tolist(), strict=True)):
        for level, ((height, width), first) in enumerate(zip(sizes, firsts, strict=True)):
            plane = features[:, first : first + height * width].mT.reshape(count, channels, height, width)
            sampled = F.grid_sample(plane, grids[:, :, :, camera], padding_mode="zeros", align_corners=False)
            share = weights[:, :, :, camera, level].permute(0, 3, 1, 2)  # (N, groups, anchors, points)
            grouped = sampled.view(count, share.size(1), -1, *sampled.shape[2:])
            total = total + torch.einsum("ngcap,ngap->ngca", grouped, share).flatten(1, 2)
    return total.mT


_, deformable_aggregation_backward = operators(
    deformable_aggregation_forward,
    forward="features shapes starts locations weights",
    backward="features shapes starts locations weights grad_output grad_features grad_locations grad_weights",
)
