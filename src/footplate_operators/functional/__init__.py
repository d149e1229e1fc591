"""The public functions of `mmcv.ops`, as operators of torch.

They have the names, arguments and defaults of mmcv. Each operator is registered in `torch.ops.footplate_operators`, so
that it works with `torch.compile`, `torch.export`, autocast and `torch.vmap`; see `footplate_operators.registration`.
"""

from footplate_operators.functional.boxes import (
    batched_nms,
    bbox_overlaps,
    box_iou_quadri,
    box_iou_rotated,
    nms,
    nms_match,
    nms_quadri,
    nms_rotated,
    soft_nms,
)
from footplate_operators.functional.layers import (
    carafe,
    carafe_naive,
    deform_conv2d,
    modulated_deform_conv2d,
    multi_scale_deformable_attn,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from footplate_operators.functional.points import (
    points_in_boxes_all,
    points_in_boxes_cpu,
    points_in_boxes_part,
    voxelization,
)
from footplate_operators.functional.regions import roi_align, roi_pool

__all__ = [
    "batched_nms",
    "bbox_overlaps",
    "box_iou_quadri",
    "box_iou_rotated",
    "carafe",
    "carafe_naive",
    "deform_conv2d",
    "modulated_deform_conv2d",
    "multi_scale_deformable_attn",
    "nms",
    "nms_match",
    "nms_quadri",
    "nms_rotated",
    "points_in_boxes_all",
    "points_in_boxes_cpu",
    "points_in_boxes_part",
    "roi_align",
    "roi_pool",
    "sigmoid_focal_loss",
    "soft_nms",
    "softmax_focal_loss",
    "voxelization",
]
