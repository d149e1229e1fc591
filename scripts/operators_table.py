"""Writes the table of operators in `operators/README.md`, from the registered operators, the tests and measurements.

    python -m scripts.operators_table [ROWS --device TEXT]

Run it in the root of the repository. ROWS is a file that `python -m benchmarks operators --json ROWS` wrote. Its times
and memory are first stored in `operators/measurements.json`, with the device and the date.
"""

import argparse
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from footplate_operators import mmcv_ops
from tests.footplate_operators.test_torch_operators import _SAMPLES

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "operators" / "README.md"
MEASUREMENTS = ROOT / "operators" / "measurements.json"
START, END = "<!-- operators -->", "<!-- end -->"
_SMALL = 8.0  # MiB of arguments and results
DTYPES = {"64": torch.float64, "32": torch.float32, "16": torch.float16, "b16": torch.bfloat16}

# The name of a function, the classes of mmcv.ops that use it, and its name in `mmcv._ext`.
ROWS = """
nms - nms
soft_nms - softnms
batched_nms - -
nms_match - nms_match
nms_rotated - nms_rotated
nms_quadri - nms_quadri
nms3d,nms3d_normal - iou3d_nms3d
nms_bev,nms_normal_bev - -
bbox_overlaps - bbox_overlaps
box_iou_rotated - box_iou_rotated
box_iou_quadri - box_iou_quadri
boxes_iou3d,boxes_overlap_bev,boxes_iou_bev - iou3d_boxes_overlap_bev
diff_iou_rotated_2d,diff_iou_rotated_3d - -
convex_iou - convex_iou
convex_giou - convex_giou
min_area_polygons - min_area_polygons
points_in_polygons - points_in_polygons
roi_align RoIAlign roi_align
roi_pool RoIPool roi_pool
roi_align_rotated RoIAlignRotated roi_align_rotated
riroi_align_rotated RiRoIAlignRotated riroi_align_rotated
bezier_align BezierAlign bezier_align
deform_roi_pool DeformRoIPool,DeformRoIPoolPack,ModulatedDeformRoIPoolPack deform_roi_pool
rotated_feature_align - rotated_feature_align
point_sample,rel_roi_point_to_rel_img_point SimpleRoIAlign -
deform_conv2d DeformConv2d,DeformConv2dPack,SAConv2d deform_conv
modulated_deform_conv2d ModulatedDeformConv2d,ModulatedDeformConv2dPack modulated_deform_conv
masked_conv2d MaskedConv2d masked_im2col
active_rotated_filter - active_rotated_filter
multi_scale_deformable_attn_pytorch MultiScaleDeformableAttention,MultiScaleDeformableAttnFunction ms_deform_attn
- CrissCrossAttention -
- PSAMask psamask
- CornerPool -
sigmoid_focal_loss SigmoidFocalLoss sigmoid_focal_loss
softmax_focal_loss SoftmaxFocalLoss softmax_focal_loss
carafe,carafe_naive CARAFE,CARAFENaive,CARAFEPack carafe
fused_bias_leakyrelu FusedBiasLeakyReLU -
upfirdn2d - -
tin_shift TINShift -
contour_expand - -
pixel_group - -
voxelization Voxelization hard_voxelize
dynamic_scatter DynamicScatter dynamic_point_to_voxel
points_in_boxes_part,points_in_boxes_cpu - points_in_boxes_part
points_in_boxes_all - points_in_boxes_all
furthest_point_sample,furthest_point_sample_with_dist PointsSampler furthest_point_sampling
ball_query QueryAndGroup ball_query
knn - knn
grouping_operation,gather_points GroupAll group_points
three_nn - three_nn
three_interpolate - three_interpolate
assign_score_withk - assign_score_withk
chamfer_distance - chamfer_distance
- RoIAwarePool3d roiaware_pool3d
- RoIPointPool3d roipoint_pool3d
- SubMConv2d,SubMConv3d,SparseConv2d,SparseConv3d,SparseConvTranspose2d,SparseConvTranspose3d,\
SparseInverseConv2d,SparseInverseConv3d indice_conv
- SparseMaxPool2d,SparseMaxPool3d indice_maxpool
"""
# The cases of the tests whose name is not the first one of the row.
SAMPLES = {
    "PSAMask": "psa_mask",
    "RoIAwarePool3d": "roiaware_pool3d",
    "RoIPointPool3d": "roipoint_pool3d",
    "SubMConv2d": "indice_conv",
    "SparseMaxPool2d": "indice_maxpool",
    "multi_scale_deformable_attn_pytorch": "multi_scale_deformable_attn",
    "nms_bev": "nms_rotated",
    "CrissCrossAttention": "criss_cross",
    "CornerPool": "corner_pool",
}


def _tensors(values: Any) -> Iterator[Tensor]:
    yield from (each for each in (values if isinstance(values, tuple) else (values,)) if isinstance(each, Tensor))


def _facts(sample: str) -> tuple[str, str]:
    """Returns whether there is a backward pass, and the floating-point types, by running the sample of the tests."""
    function, arguments = _SAMPLES[sample]
    backward = any(each.requires_grad for each in _tensors(function(*arguments)))
    dtypes = []
    for name, dtype in DTYPES.items():
        cast = [
            each.detach().to(dtype) if isinstance(each, Tensor) and each.is_floating_point() else each
            for each in arguments
        ]
        try:
            function(*cast)
        except (RuntimeError, TypeError):
            continue
        dtypes.append(name)
    return "yes" if backward else "–", ", ".join(dtypes)


def _measured(rows: list[dict[str, Any]], name: str) -> tuple[str, str]:
    """Returns the milliseconds and the memory of the forward and of the backward pass."""
    of_name = [row for row in rows if row["operator"].removesuffix("_3d_forward").startswith(name)]
    if name == "-" or not of_name:
        return "", ""
    first = [row for row in of_name if row["case"] == of_name[0]["case"]]
    backward = [row for row in first if "_backward" in row["operator"]]
    passes = [[row for row in first if row not in backward][:1], backward]
    times = [_milliseconds(sum(row["milliseconds"] for row in each)) for each in passes if each]
    memory = [_memory(max(each, key=lambda row: row["ratio"])) for each in passes if each]
    return " + ".join(times), ", ".join(memory)


def _milliseconds(time: float) -> str:
    return f"{time:.0f}" if time >= 100 else f"{time:.3g}"


def _memory(row: dict[str, Any]) -> str:
    """Returns the ratio of the peak to the arguments and, if these are small, the memory beyond them."""
    if row["arguments"] < _SMALL:
        return f"+{row['temporary']:.1f} MiB"
    return f"{row['ratio']:.2f}"


def table(measurements: dict[str, Any]) -> str:
    """Returns the table."""
    reference = {key.split("/")[0] for key in np.load(ROOT / "tests/data/operators/reference.npz").files}
    lines = [
        "| function | class | backward | float | compared with | ms | memory | GPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS.replace("\\\n", "").split("\n")[1:-1]:
        functions, classes, operator = (part.split(",") if part != "-" else [] for part in row.split())
        for name in (*functions, *classes):
            assert name in mmcv_ops.__all__, name
        first = (functions or classes)[0]
        sample = SAMPLES.get(first, first)
        backward, dtypes = _facts(sample) if sample in _SAMPLES else ("yes", "64, 32")
        is_compiled = any(case.startswith((sample, *functions)) for case in reference)
        shown = (", ".join(f"`{name}`" for name in names) or "–" for names in (functions, classes))
        compared = "compiled mmcv" if is_compiled else "loops"
        time, memory = _measured(measurements["rows"], (operator or ["-"])[0])
        cells = (*shown, backward, dtypes, compared, time or "–", memory or "–", "not measured")
        lines.append(f"| {' | '.join(cells)} |")
    source = "Times and memory have not been measured for this version yet."
    if measurements["rows"]:
        source = "Times and memory: {device}, PyTorch {torch}, {date}.".format_map(measurements)
    return "\n".join((*lines, "", source))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "rows", nargs="?", type=Path, metavar="ROWS", help="a file of python -m benchmarks operators --json"
    )
    parser.add_argument("--device", help="the name of the processor")
    options = parser.parse_args()
    if options.rows:
        if not options.device:
            parser.error("ROWS needs --device")
        found = {
            "device": options.device,
            "date": datetime.date.today().isoformat(),
            "torch": torch.__version__,
            "rows": json.loads(options.rows.read_text()),
        }
        MEASUREMENTS.write_text(json.dumps(found, indent=1) + "\n")
    measurements = json.loads(MEASUREMENTS.read_text()) if MEASUREMENTS.exists() else {"rows": []}
    before, _, rest = README.read_text().partition(START)
    README.write_text(f"{before}{START}\n{table(measurements)}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
