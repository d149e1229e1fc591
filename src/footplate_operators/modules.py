"""Lists the compiled modules that this package replaces, with their operators.

The names and the arguments are those that the Python code next to a compiled module uses.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from footplate_operators import (
    attention,
    deformable,
    flash_attention,
    neighborhood,
    nms,
    points,
    polygons,
    pooling,
    rasterization,
    scanning,
    scatter,
    sparse,
)

_Operator = Callable[..., Any]


def _after_sizes(count: int, operator: _Operator) -> _Operator:
    """Returns an operator that takes `count` sizes of tensors before the arguments of `operator`, and ignores them."""
    return lambda *arguments: operator(*arguments[count:])


# MMDetection3D 0.x


def _ball_query(
    b: int, n: int, m: int, low: float, high: float, count: int, centers: Tensor, xyz: Tensor, out: Tensor
) -> None:
    points.ball_query_forward(centers, xyz, out, b, n, m, low, high, count)


def _knn(b: int, n: int, m: int, count: int, xyz: Tensor, centers: Tensor, indices: Tensor, squared: Tensor) -> None:
    points.knn_forward(xyz, centers, indices, squared, b, n, m, count)


def _turned(boxes: Tensor) -> Tensor:
    """Converts boxes of MMDetection3D 0.x, of shape (..., 7), to the boxes of `footplate_operators.points`.

    At an angle of 0, the length of these boxes, which follows their width, is along the negative y axis. They turn
    clockwise.
    """
    x, y, z, width, length, height, angle = boxes.unbind(-1)
    return torch.stack((x, y, z, length, width, height, -angle - torch.pi / 2), -1)


def _of_boxes(operator: _Operator) -> _Operator:
    """Returns an operator that takes boxes of MMDetection3D 0.x as its first argument."""
    return lambda boxes, *arguments: operator(_turned(boxes), *arguments)


def _from_corners(boxes: Tensor) -> Tensor:
    """Converts boxes of MMDetection3D 0.x, seen from above, to boxes of shape (N, 7).

    They consist of x1, y1, x2, y2 and the angle by which they are turned clockwise around their center.
    """
    low, high, angle = boxes[:, :2], boxes[:, 2:4], boxes[:, 4:]
    flat = torch.zeros_like(angle)
    return torch.cat(((low + high) / 2, flat, high - low, flat, -angle), 1)


def _boxes_overlap_bev(boxes_a: Tensor, boxes_b: Tensor, areas: Tensor) -> None:
    polygons.iou3d_boxes_overlap_bev_forward(_from_corners(boxes_a), _from_corners(boxes_b), areas)


def _boxes_iou_bev(boxes_a: Tensor, boxes_b: Tensor, ious: Tensor) -> None:
    columns = [0, 1, 3, 4, 6]
    first, second = _from_corners(boxes_a)[:, columns], _from_corners(boxes_b)[:, columns]
    polygons.box_iou_rotated(first, second, ious, 0, aligned=False)


def _nms(operator: _Operator) -> _Operator:
    def run(boxes: Tensor, keep: Tensor, threshold: float, device: int | None = None) -> int:
        number = torch.zeros((), dtype=torch.long)
        operator(_from_corners(boxes), keep, number, threshold)
        return int(number)

    return run


def _dynamic_voxelize(xyz: Tensor, voxels: Tensor, size: list[float], bounds: list[float], dimensions: int) -> None:
    points.dynamic_voxelize_forward(xyz, torch.tensor(size), torch.tensor(bounds), voxels)


def _hard_voxelize(
    xyz: Tensor,
    voxels: Tensor,
    places: Tensor,
    counts: Tensor,
    size: list[float],
    bounds: list[float],
    max_points: int,
    max_voxels: int,
    dimensions: int,
    deterministic: bool = True,
) -> int:
    number = torch.zeros((), dtype=torch.long)
    grid = torch.tensor(size), torch.tensor(bounds)
    points.hard_voxelize_forward(xyz, *grid, voxels, places, counts, number, max_points, max_voxels)
    return int(number)


def _pairs_in_grid(indices: Tensor, grid: Tensor, *arguments: Any) -> list[Tensor]:
    """Like `get_indice_pairs_3d_forward`. Compiled operators use the memory of `grid`, which is not needed here."""
    return sparse.get_indice_pairs_3d_forward(indices, *arguments)


_CONVOLUTIONS: dict[str, _Operator] = {
    "indice_conv": sparse.indice_conv_forward,
    "indice_conv_backward": sparse.indice_conv_backward,
    "fused_indice_conv": sparse.fused_indice_conv_forward,
    "indice_maxpool": sparse.indice_maxpool_forward,
    "indice_maxpool_backward": sparse.indice_maxpool_backward,
}

MODULES: dict[str, dict[str, _Operator]] = {
    "assign_score_withk_ext": {
        "assign_score_withk_forward_wrapper": _after_sizes(7, points.assign_score_withk_forward),
        "assign_score_withk_backward_wrapper": _after_sizes(7, points.assign_score_withk_backward),
    },
    "ball_query_ext": {"ball_query_wrapper": _ball_query},
    "furthest_point_sample_ext": {
        "furthest_point_sampling_wrapper": _after_sizes(3, points.furthest_point_sampling_forward),
        "furthest_point_sampling_with_dist_wrapper": _after_sizes(3, points.furthest_point_sampling_with_dist_forward),
    },
    "gather_points_ext": {
        "gather_points_wrapper": _after_sizes(4, points.gather_points_forward),
        "gather_points_grad_wrapper": _after_sizes(4, points.gather_points_backward),
    },
    "group_points_ext": {
        "forward": _after_sizes(5, points.group_points_forward),
        "backward": _after_sizes(5, points.group_points_backward),
    },
    "interpolate_ext": {
        "three_nn_wrapper": _after_sizes(3, points.three_nn_forward),
        "three_interpolate_wrapper": _after_sizes(4, points.three_interpolate_forward),
        "three_interpolate_grad_wrapper": _after_sizes(4, points.three_interpolate_backward),
    },
    "iou3d_cuda": {
        "boxes_overlap_bev_gpu": _boxes_overlap_bev,
        "boxes_iou_bev_gpu": _boxes_iou_bev,
        "nms_gpu": _nms(nms.iou3d_nms3d_forward),
        "nms_normal_gpu": _nms(nms.iou3d_nms3d_normal_forward),
    },
    "knn_ext": {"knn_wrapper": _knn},
    "roiaware_pool3d_ext": {
        "forward": _of_boxes(points.roiaware_pool3d_forward),
        "backward": points.roiaware_pool3d_backward,
        "points_in_boxes_gpu": _of_boxes(points.points_in_boxes_part_forward),
        "points_in_boxes_batch": _of_boxes(points.points_in_boxes_all_forward),
        "points_in_boxes_cpu": _of_boxes(points.points_in_boxes_cpu_forward),
    },
    "sparse_conv_ext": {
        "get_indice_pairs_2d": sparse.get_indice_pairs_2d_forward,
        "get_indice_pairs_3d": sparse.get_indice_pairs_3d_forward,
        "get_indice_pairs_4d": sparse.get_indice_pairs_4d_forward,
        "get_indice_pairs_grid_2d": _pairs_in_grid,
        "get_indice_pairs_grid_3d": _pairs_in_grid,
        **{f"{name}_{dtype}": operator for name, operator in _CONVOLUTIONS.items() for dtype in ("fp32", "half")},
    },
    "voxel_layer": {
        "dynamic_voxelize": _dynamic_voxelize,
        "hard_voxelize": _hard_voxelize,
        "dynamic_point_to_voxel_forward": points.dynamic_point_to_voxel_forward,
        "dynamic_point_to_voxel_backward": points.dynamic_point_to_voxel_backward,
    },
    # Research code
    "bev_pool_ext": {"bev_pool_forward": pooling.bev_pool_forward, "bev_pool_backward": pooling.bev_pool_backward},
    "bev_pool_v2_ext": {
        "bev_pool_v2_forward": pooling.bev_pool_v2_forward,
        "bev_pool_v2_backward": pooling.bev_pool_v2_backward,
    },
    "deform3dattn_custom_cn": {
        "ms_deform_attn_forward": deformable.ms_deform_attn_forward,
        "ms_deform_attn_backward": deformable.ms_deform_attn_backward,
    },
    "deformable_aggregation_ext": {
        "deformable_aggregation_forward": attention.deformable_aggregation_forward,
        "deformable_aggregation_backward": attention.deformable_aggregation_backward,
    },
    "occ_pool_ext": {"occ_pool_forward": pooling.bev_pool_forward, "occ_pool_backward": pooling.bev_pool_backward},
    "point_ops_ext": {"group_inner_inds_wrapper": pooling.group_inner_inds},
    "voxel_pool_ext": {
        "voxel_pool_forward": pooling.voxel_pool_forward,
        "voxel_pool_backward": pooling.voxel_pool_backward,
    },
    "voxel_pooling_ext": {"voxel_pooling_forward_wrapper": pooling.voxel_pooling_forward},
    # Modules in Python, which modified copies of MMDetection3D contain
    "mmdet3d.ops.bev_pool": {"bev_pool": pooling.bev_pool},
    "mmdet3d.ops.voxel_pooling": {"voxel_pooling": pooling.voxel_pooling},
}
"""The modules that are imported from any package or on their own, such as `mmdet3d.ops.voxel.voxel_layer`.

A name with dots is that of one module.
"""

_FLASH_ATTENTION: dict[str, _Operator] = {
    f"flash_attn_{kind}{packed}func": getattr(flash_attention, f"flash_attn_{kind}{packed}func")
    for kind in ("", "varlen_", "unpadded_")
    for packed in ("", "qkvpacked_", "kvpacked_")
}
_SCAN: dict[str, _Operator] = {"fwd": scanning.selective_scan_forward, "bwd": scanning.selective_scan_backward}

TOP_LEVEL_MODULES: dict[str, dict[str, _Operator]] = {
    "GeometricKernelAttention": {
        "geometric_kernel_attn_cuda_forward": attention.geometric_kernel_attn_forward,
        "geometric_kernel_attn_cuda_backward": attention.geometric_kernel_attn_backward,
    },
    "MultiScaleDeformableAttention": {
        "ms_deform_attn_forward": deformable.ms_deform_attn_forward,
        "ms_deform_attn_backward": attention.ms_deform_attn_backward,
    },
    "native_rasterizer": {
        "forward_rasterize": rasterization.forward_rasterize,
        "backward_rasterize": rasterization.backward_rasterize,
    },
    "torch_scatter": {
        "scatter": scatter.scatter,
        **{f"scatter_{kind}": getattr(scatter, f"scatter_{kind}") for kind in ("add", "max", "mean", "min", "sum")},
        "segment_csr": scatter.segment_csr,
    },
    "flash_attn": _FLASH_ATTENTION,
    "flash_attn.flash_attn_interface": _FLASH_ATTENTION,
    "flash_attn.bert_padding": {
        "index_first_axis": flash_attention.index_first_axis,
        "pad_input": flash_attention.pad_input,
        "unpad_input": flash_attention.unpad_input,
    },
    "mamba_ssm.ops.selective_scan_interface": {
        "selective_scan_fn": scanning.selective_scan_fn,
        "selective_scan_ref": scanning.selective_scan_fn,
    },
    "natten.functional": {
        "na2d": neighborhood.na2d,
        "na2d_av": neighborhood.na2d_av,
        "na2d_qk": neighborhood.na2d_qk,
        "natten2dav": neighborhood.na2d_av,
        "natten2dqkrpb": neighborhood.natten2dqkrpb,
    },
    "selective_scan_cuda_core": _SCAN,
    "selective_scan_cuda_oflex": _SCAN,
}
"""The modules that are only imported on their own. Some of their names are also names of classes in packages."""

MMCV_OPS = (
    "active_rotated_filter",
    "assign_score_withk",
    "ball_query",
    "bbox",
    "bezier_align",
    "box_iou_quadri",
    "box_iou_rotated",
    "carafe",
    "cc_attention",
    "chamfer_distance",
    "contour_expand",
    "convex_iou",
    "corner_pool",
    "deform_conv",
    "deform_roi_pool",
    "deprecated_wrappers",
    "diff_iou_rotated",
    "focal_loss",
    "furthest_point_sample",
    "fused_bias_leakyrelu",
    "gather_points",
    "group_points",
    "info",
    "iou3d",
    "knn",
    "masked_conv",
    "min_area_polygons",
    "modulated_deform_conv",
    "multi_scale_deform_attn",
    "nms",
    "pixel_group",
    "point_sample",
    "points_in_boxes",
    "points_in_polygons",
    "points_sampler",
    "psa_mask",
    "riroi_align_rotated",
    "roi_align",
    "roi_align_rotated",
    "roi_pool",
    "roiaware_pool3d",
    "roipoint_pool3d",
    "rotated_feature_align",
    "saconv",
    "scatter_points",
    "sparse_conv",
    "sparse_modules",
    "sparse_pool",
    "sparse_structure",
    "sync_bn",
    "three_interpolate",
    "three_nn",
    "tin_shift",
    "upfirdn2d",
    "voxelize",
)
"""The modules of `mmcv.ops`, which `install` provides if mmcv is not installed."""
