"""What `mmcv.ops` offers, without mmcv: the same names, arguments, defaults, initialization and keys of weights.

>>> import torch
>>> from footplate_operators.mmcv_ops import nms
>>> boxes, scores = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]]), torch.tensor([0.9, 0.8, 0.7])
>>> nms(boxes, scores, iou_threshold=0.5)[1].tolist()
[0, 2]

After `footplate_operators.install()`, `from mmcv.ops import nms` works as well, if mmcv is not installed.
"""

from typing import NoReturn

from torch.nn import Conv2d, ConvTranspose2d, Linear, MaxPool2d

from footplate_operators import functional
from footplate_operators.functional import *
from footplate_operators.mmcv_ops.attention import (
    CrissCrossAttention,
    MultiScaleDeformableAttention,
    MultiScaleDeformableAttnFunction,
    PSAMask,
)
from footplate_operators.mmcv_ops.convolution import (
    DeformConv2d,
    DeformConv2dPack,
    MaskedConv2d,
    ModulatedDeformConv2d,
    ModulatedDeformConv2dPack,
    SAConv2d,
)
from footplate_operators.mmcv_ops.layers import (
    CARAFE,
    CARAFENaive,
    CARAFEPack,
    CornerPool,
    FusedBiasLeakyReLU,
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    SyncBatchNorm,
    TINShift,
)
from footplate_operators.mmcv_ops.points import (
    DynamicScatter,
    GroupAll,
    PointsSampler,
    QueryAndGroup,
    RoIAwarePool3d,
    RoIPointPool3d,
    Voxelization,
    calc_square_dist,
)
from footplate_operators.mmcv_ops.regions import (
    BezierAlign,
    DeformRoIPool,
    DeformRoIPoolPack,
    ModulatedDeformRoIPoolPack,
    RiRoIAlignRotated,
    RoIAlign,
    RoIAlignRotated,
    RoIPool,
    SimpleRoIAlign,
    point_sample,
    rel_roi_point_to_rel_img_point,
)
from footplate_operators.mmcv_ops.sparse import (
    RemoveGrid,
    SparseConv2d,
    SparseConv3d,
    SparseConvolution,
    SparseConvTensor,
    SparseConvTranspose2d,
    SparseConvTranspose3d,
    SparseInverseConv2d,
    SparseInverseConv3d,
    SparseMaxPool2d,
    SparseMaxPool3d,
    SparseModule,
    SparseSequential,
    SubMConv2d,
    SubMConv3d,
    ToDense,
    scatter_nd,
)

__all__ = [
    "BezierAlign",
    "CARAFE",
    "CARAFENaive",
    "CARAFEPack",
    "Conv2d",
    "ConvTranspose2d",
    "CornerPool",
    "CrissCrossAttention",
    "DeformConv2d",
    "DeformConv2dPack",
    "DeformRoIPool",
    "DeformRoIPoolPack",
    "DynamicScatter",
    "FusedBiasLeakyReLU",
    "GroupAll",
    "Linear",
    "MaskedConv2d",
    "MaxPool2d",
    "ModulatedDeformConv2d",
    "ModulatedDeformConv2dPack",
    "ModulatedDeformRoIPoolPack",
    "MultiScaleDeformableAttention",
    "MultiScaleDeformableAttnFunction",
    "PSAMask",
    "PointsSampler",
    "QueryAndGroup",
    "RemoveGrid",
    "RiRoIAlignRotated",
    "RoIAlign",
    "RoIAlignRotated",
    "RoIAwarePool3d",
    "RoIPointPool3d",
    "RoIPool",
    "SAConv2d",
    "SigmoidFocalLoss",
    "SimpleRoIAlign",
    "SoftmaxFocalLoss",
    "SparseConv2d",
    "SparseConv3d",
    "SparseConvTensor",
    "SparseConvTranspose2d",
    "SparseConvTranspose3d",
    "SparseConvolution",
    "SparseInverseConv2d",
    "SparseInverseConv3d",
    "SparseMaxPool2d",
    "SparseMaxPool3d",
    "SparseModule",
    "SparseSequential",
    "SubMConv2d",
    "SubMConv3d",
    "SyncBatchNorm",
    "TINShift",
    "ToDense",
    "Voxelization",
    "calc_square_dist",
    "get_compiler_version",
    "get_compiling_cuda_version",
    "point_sample",
    "rel_roi_point_to_rel_img_point",
    "scatter_nd",
]
__all__ += functional.__all__

MISSING = (
    "BorderAlign",
    "Correlation",
    "PrRoIPool",
    "bias_act",
    "border_align",
    "conv2d",
    "conv_transpose2d",
    "filter2d",
    "filtered_lrelu",
    "prroi_pool",
    "upsample2d",
)
"""The names of `mmcv.ops` that are not available."""


def get_compiler_version() -> str:
    """Returns a text: nothing was compiled."""
    return "none: footplate's operators in PyTorch"


def get_compiling_cuda_version() -> str:
    """Returns a text: nothing was compiled."""
    return "not available"


def __getattr__(name: str) -> NoReturn:
    if name in MISSING:
        raise ImportError(
            f"footplate-operators does not implement '{name}' of mmcv.ops. Install mmcv with compiled operators, or "
            "remove the import."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
