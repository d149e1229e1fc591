"""Compares `mmcv_ops` with the Python code of mmcv, which uses the same operators through `install`.

Needs `mmcv-lite`, 2.1 or 2.2.
"""

import importlib
import inspect
import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import footplate_operators
from footplate_operators import mmcv_ops

pytestmark = pytest.mark.filterwarnings("ignore")


def _import_mmcv() -> ModuleType:
    footplate_operators.install()
    # On a CPU, some functions of mmcv ask for the current GPU, or allocate their results on it.
    torch.cuda.current_device = lambda: -1
    vars(torch.cuda).update(IntTensor=torch.IntTensor, FloatTensor=torch.FloatTensor)
    return importlib.import_module("mmcv.ops")


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    mmcv = pytest.importorskip("mmcv", reason="the reference is the package mmcv-lite")
    try:
        THEIRS = _import_mmcv()
    except ImportError as error:
        pytest.skip(f"mmcv.ops cannot be imported: {error}", allow_module_level=True)

torch.manual_seed(0)
FEATURES = torch.randn(2, 8, 20, 24)
ROIS = torch.tensor([[0, 2.0, 3, 60, 50], [0, 0, 0, 20, 30], [1, 10, 10, 90, 70]])
ROTATED = torch.tensor([[0, 30.0, 30, 40, 20, 0.3], [1, 50, 40, 30, 60, -0.7]])
BEZIERS = torch.cat((torch.tensor([[0.0], [1], [0]]), torch.rand(3, 16) * 60), 1)
LOGITS, CLASSES, FACTORS = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 1, 1]), torch.rand(4)
SHAPES, STARTS = torch.tensor([[8, 8], [4, 4]]), torch.tensor([0, 64])
VALUE, QUERY, ENCODING = torch.randn(80, 2, 32), torch.randn(10, 2, 32), torch.randn(10, 2, 32)
REFERENCES, PADDING = torch.rand(2, 10, 2, 4), torch.rand(2, 80) > 0.7
POINTS = torch.rand(2, 60, 3)
CENTERS, POINT_FEATURES = POINTS[:, :7].clone(), torch.randn(2, 5, 60)
CLOUD, CELLS = torch.rand(200, 4) * 10, torch.randint(-1, 4, (200, 3)).int()
SAMPLES = torch.randint(0, 2, (200, 1)).sort(0)[0].int()
BOXES_3D = torch.tensor([[5.0, 5, 2, 4, 4, 4, 0.3], [3, 3, 1, 2, 5, 4, 0]])
VOXELS: tuple[Any, ...] = ([1.0, 1, 2], [0.0, 0, 0, 10, 10, 10])


# The name, the arguments of the constructor, and the inputs; those in a list get no gradient.
MODULES: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("RoIAlign", {"output_size": 7, "spatial_scale": 0.25}, (FEATURES, [ROIS])),
    (
        "RoIAlign",
        {"output_size": (7, 5), "spatial_scale": 0.25, "sampling_ratio": 2, "pool_mode": "max", "aligned": False},
        (FEATURES, [ROIS]),
    ),
    ("RoIPool", {"output_size": 7, "spatial_scale": 0.25}, (FEATURES, [ROIS])),
    ("RoIAlignRotated", {"output_size": 7, "spatial_scale": 0.25, "clockwise": True}, (FEATURES, [ROTATED])),
    ("RiRoIAlignRotated", {"out_size": (7, 5), "spatial_scale": 0.25, "num_orientations": 4}, (FEATURES, [ROTATED])),
    ("BezierAlign", {"output_size": (4, 8), "spatial_scale": 0.25, "sampling_ratio": 2}, (FEATURES, [BEZIERS])),
    ("SimpleRoIAlign", {"output_size": (7, 6), "spatial_scale": 0.25}, (FEATURES, [ROIS])),
    ("SimpleRoIAlign", {"output_size": (7, 6), "spatial_scale": 0.25, "aligned": False}, (FEATURES, [ROIS])),
    (
        "DeformRoIPool",
        {"output_size": (7, 7), "spatial_scale": 0.25, "gamma": 0.2},
        (FEATURES, [ROIS], torch.randn(3, 2, 7, 7)),
    ),
    (
        "DeformRoIPoolPack",
        {"output_size": (7, 7), "output_channels": 8, "deform_fc_channels": 16, "spatial_scale": 0.25},
        (FEATURES, [ROIS]),
    ),
    (
        "ModulatedDeformRoIPoolPack",
        {"output_size": (7, 7), "output_channels": 8, "deform_fc_channels": 16, "spatial_scale": 0.25},
        (FEATURES, [ROIS]),
    ),
    (
        "DeformConv2d",
        {
            "in_channels": 8,
            "out_channels": 6,
            "kernel_size": (3, 5),
            "padding": (1, 2),
            "stride": 2,
            "groups": 2,
            "deform_groups": 2,
        },
        (FEATURES, torch.randn(2, 60, 10, 12)),
    ),
    (
        "DeformConv2d",
        {"in_channels": 8, "out_channels": 6, "kernel_size": 3, "padding": 1},
        (FEATURES[:, :, :2, :2], torch.randn(2, 18, 2, 2)),
    ),
    ("DeformConv2dPack", {"in_channels": 8, "out_channels": 6, "kernel_size": 3, "padding": 1}, (FEATURES,)),
    (
        "ModulatedDeformConv2d",
        {"in_channels": 8, "out_channels": 6, "kernel_size": 3, "padding": 1, "bias": False},
        (FEATURES, torch.randn(2, 18, 20, 24), torch.rand(2, 9, 20, 24)),
    ),
    (
        "ModulatedDeformConv2dPack",
        {"in_channels": 8, "out_channels": 6, "kernel_size": 3, "padding": 2, "dilation": 2, "deform_groups": 2},
        (FEATURES,),
    ),
    ("MaskedConv2d", {"in_channels": 8, "out_channels": 6, "kernel_size": 3, "padding": 1}, (FEATURES[:1],)),
    ("SAConv2d", {"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, "stride": 2}, (FEATURES,)),
    (
        "SAConv2d",
        {"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, "use_deform": True},
        (FEATURES,),
    ),
    (
        "MultiScaleDeformableAttention",
        {"embed_dims": 32, "num_heads": 4, "num_levels": 2},
        (QUERY, None, VALUE, None, ENCODING, None, [REFERENCES[..., :2]], [SHAPES], [STARTS]),
    ),
    (
        "MultiScaleDeformableAttention",
        {"embed_dims": 32, "num_heads": 4, "num_levels": 2, "batch_first": True, "value_proj_ratio": 0.5},
        (
            QUERY.transpose(0, 1),
            None,
            VALUE.transpose(0, 1),
            ENCODING.transpose(0, 1),
            None,
            [PADDING],
            REFERENCES,
            [SHAPES],
            [STARTS],
        ),
    ),
    ("CrissCrossAttention", {"in_channels": 16}, (torch.randn(2, 16, 5, 7),)),
    ("PSAMask", {"psa_type": "collect", "mask_size": (7, 9)}, (torch.randn(2, 63, 6, 5),)),
    ("PSAMask", {"psa_type": "distribute", "mask_size": (11, 9)}, (torch.randn(2, 99, 6, 5),)),
    ("SigmoidFocalLoss", {"gamma": 2.0, "alpha": 0.25}, (LOGITS, [torch.tensor([0, 1, 2, 3, 4, 4])])),
    ("SigmoidFocalLoss", {"gamma": 1.5, "alpha": 0.4, "weight": FACTORS, "reduction": "sum"}, (LOGITS, [CLASSES])),
    ("SoftmaxFocalLoss", {"gamma": 1.5, "alpha": 0.4, "weight": FACTORS}, (LOGITS, [CLASSES])),
    ("CARAFE", {"kernel_size": 5, "group_size": 2, "scale_factor": 2}, (FEATURES, torch.rand(2, 50, 40, 48))),
    ("CARAFENaive", {"kernel_size": 5, "group_size": 2, "scale_factor": 2}, ([FEATURES], [torch.rand(2, 50, 40, 48)])),
    (
        "CARAFEPack",
        {"channels": 8, "scale_factor": 2, "up_kernel": 3, "up_group": 2, "encoder_dilation": 2},
        (FEATURES,),
    ),
    *(("CornerPool", {"mode": mode}, (FEATURES,)) for mode in ("bottom", "left", "right", "top")),
    ("FusedBiasLeakyReLU", {"num_channels": 8, "negative_slope": 0.1}, (FEATURES,)),
    ("TINShift", {}, (torch.randn(2, 4, 8, 6), [torch.tensor([[0, 1, -1, 2], [3, 0, 0, -2]])])),
    (
        "QueryAndGroup",
        {"max_radius": 0.4, "sample_num": 6, "normalize_xyz": True, "return_grouped_xyz": True},
        (POINTS, CENTERS, POINT_FEATURES),
    ),
    (
        "QueryAndGroup",
        {"max_radius": 0.5, "sample_num": 8, "min_radius": 0.2, "use_xyz": False, "return_grouped_idx": True},
        (POINTS, CENTERS, POINT_FEATURES),
    ),
    (
        "QueryAndGroup",
        {"max_radius": 0.4, "sample_num": 6, "uniform_sample": True, "return_unique_cnt": True},
        (POINTS, CENTERS),
    ),
    ("QueryAndGroup", {"max_radius": None, "sample_num": 4}, (POINTS, CENTERS, POINT_FEATURES)),
    ("GroupAll", {}, (POINTS, None, POINT_FEATURES)),
    (
        "PointsSampler",
        {
            "num_point": [5, 6, 3],
            "fps_mod_list": ["D-FPS", "F-FPS", "FS"],
            "fps_sample_range_list": [20, 40, -1],
        },
        ([POINTS], [POINT_FEATURES]),
    ),
    ("Voxelization", {"voxel_size": VOXELS[0], "point_cloud_range": VOXELS[1], "max_num_points": 3}, ([CLOUD],)),
    (
        "Voxelization",
        {"voxel_size": VOXELS[0], "point_cloud_range": VOXELS[1], "max_num_points": 3, "max_voxels": (5, 7)},
        ([CLOUD],),
    ),
    ("Voxelization", {"voxel_size": VOXELS[0], "point_cloud_range": VOXELS[1], "max_num_points": -1}, ([CLOUD],)),
    (
        "DynamicScatter",
        {"voxel_size": VOXELS[0], "point_cloud_range": VOXELS[1], "average_points": True},
        (CLOUD, [torch.cat((SAMPLES, CELLS), 1)]),
    ),
    (
        "DynamicScatter",
        {"voxel_size": VOXELS[0], "point_cloud_range": VOXELS[1], "average_points": False},
        (CLOUD, [CELLS]),
    ),
    ("RoIAwarePool3d", {"out_size": (2, 3, 4), "max_pts_per_voxel": 4}, ([BOXES_3D], [CLOUD[:, :3]], CLOUD)),
    ("RoIAwarePool3d", {"out_size": 2, "mode": "avg"}, ([BOXES_3D], [CLOUD[:, :3]], CLOUD)),
    ("RoIPointPool3d", {"num_sampled_points": 16}, ([CLOUD[None, :, :3]], [CLOUD[None]], [BOXES_3D[None]])),
]


def _perturbed(module: nn.Module) -> nn.Module:
    """Adds noise to the parameters: some are zero at first, which would hide differences."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return module


def _run(function: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[list[Tensor], list[Tensor | None]]:
    """Returns the results, and the gradients of a random combination of them."""
    leaves = [each.clone().requires_grad_() if isinstance(each, Tensor) else each for each in inputs]
    torch.manual_seed(2)  # dropout and random samples
    results = function(*(each[0] if isinstance(each, list) else each for each in leaves))
    tensors = list(results) if isinstance(results, (tuple, list)) else [results]
    differentiable = [each for each in tensors if isinstance(each, Tensor) and each.requires_grad]
    torch.manual_seed(3)
    if differentiable:
        torch.stack([(each * torch.randn(each.shape)).sum() for each in differentiable]).sum().backward()  # type: ignore[no-untyped-call]
    return tensors, [each.grad for each in leaves if isinstance(each, Tensor)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "settings", "inputs"), MODULES)
def test_modules(name: str, settings: dict[str, Any], inputs: tuple[Any, ...], training: bool) -> None:
    modules = []
    for home in (THEIRS, mmcv_ops):
        torch.manual_seed(0)
        modules.append(getattr(home, name)(**settings).train(training))
    theirs, ours = modules
    assert type(ours).__module__.startswith("footplate_operators.mmcv_ops")
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    (expected, expected_grads), (results, grads) = (_run(_perturbed(module), inputs) for module in (theirs, ours))
    torch.testing.assert_close(results, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(grads, expected_grads, rtol=0, atol=1e-4)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=1e-4)


def _sparse(home: ModuleType, dimensions: int) -> nn.Module:
    def layer(kind: str, *sizes: int, **settings: Any) -> nn.Module:
        module: nn.Module = getattr(home, f"{kind}{dimensions}d")(*sizes, **settings)
        return module

    network: nn.Module = home.SparseSequential(
        layer("SubMConv", 4, 8, 3, padding=1, indice_key="first"),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        layer("SubMConv", 8, 8, 3, padding=1, indice_key="first", bias=False),
        layer("SparseConv", 8, 6, 3, 2, padding=1, indice_key="second"),
        layer("SparseInverseConv", 6, 5, 3, indice_key="second"),
        layer("SparseMaxPool", 2, 2),
        layer("SparseConvTranspose", 5, 4, 3, 2, 1),
        layer("SparseConv", 4, 4, 3, 1, 0, 2),
        layer("SubMConv", 4, 3, 1),
    )
    return network


def _dense(network: nn.Module, tensor: Callable[[Tensor], Any], features: Tensor) -> tuple[Tensor, ...]:
    output = network(tensor(features))
    return output.dense(), output.dense(channels_first=False), output.features


@pytest.mark.parametrize("dimensions", [2, 3])
def test_sparse_convolutions(dimensions: int) -> None:
    torch.manual_seed(0)
    positions = torch.cat((torch.randint(0, 2, (60, 1)), torch.randint(0, 9, (60, dimensions))), 1)
    positions = torch.unique(positions, dim=0)
    features, outcomes, states = torch.randn(len(positions), 4), [], []
    for home in (THEIRS, mmcv_ops):
        torch.manual_seed(0)
        network = _sparse(home, dimensions)
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        tensor = partial(home.SparseConvTensor, indices=positions.int(), spatial_shape=[9] * dimensions, batch_size=2)
        run = partial(_dense, _perturbed(network), tensor)
        outcomes.append((*_run(run, (features,)), [parameter.grad for parameter in network.parameters()]))
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=0, atol=1e-4)


BOXES = torch.rand(40, 4) * 50
BOXES[:, 2:] += BOXES[:, :2]
TURNED = torch.cat((torch.rand(20, 4) * 20 + 1, torch.randn(20, 1)), 1)
BIRDS_EYE = torch.cat((BOXES[:20], torch.randn(20, 1)), 1)
SCORES, LABELS = torch.rand(40), torch.randint(0, 3, (40,))
CUBOIDS = torch.cat((torch.rand(20, 3) * 6, torch.rand(20, 3) * 5 + 1, torch.randn(20, 1)), 1)
POINT_SETS, QUADRILATERALS = torch.rand(6, 18) * 10, torch.tensor([[0.0, 0, 8, 1, 9, 9, 1, 7]]).expand(6, -1).clone()
SCORE_MAPS = [torch.rand(9, 9), torch.rand(9, 9) > 0.2, torch.rand(9, 9, 3)]
REGIONS = torch.zeros(9, 9, dtype=torch.int32)
REGIONS[2:4, 2:4], REGIONS[6:8, 5:8] = 1, 2
NEAREST = torch.randint(0, 60, (2, 7, 3)).int()

FUNCTIONS: list[tuple[str, tuple[Any, ...]]] = [
    ("nms", ([BOXES], [SCORES], 0.4, 1, 0.1, 10)),
    ("nms", ([BOXES.numpy()], [SCORES.numpy()], 0.4)),
    *(("soft_nms", ([BOXES], [SCORES], 0.3, 0.5, 0.01, method)) for method in ("naive", "linear", "gaussian")),
    ("batched_nms", ([BOXES], [SCORES], [LABELS], {"type": "nms", "iou_threshold": 0.3})),
    ("batched_nms", ([BOXES], [SCORES], [LABELS], {"type": "soft_nms", "iou_threshold": 0.3, "min_score": 0.05})),
    ("batched_nms", ([BOXES], [SCORES], [LABELS], {"type": "nms", "iou_threshold": 0.3, "split_thr": 3}, True)),
    ("batched_nms", ([BOXES], [SCORES], [LABELS], {"type": "nms", "iou_threshold": 0.3, "split_thr": 3})),
    ("batched_nms", ([BOXES], [SCORES], [LABELS], None)),
    ("nms_match", ([torch.cat((BOXES, SCORES[:, None]), 1)], 0.3)),
    ("nms_rotated", ([TURNED], [SCORES[:20]], 0.2)),
    ("nms_rotated", ([TURNED], [SCORES[:20]], 0.2, [LABELS[:20]], False)),
    ("nms_quadri", ([BOXES[:20, [0, 1, 2, 1, 2, 3, 0, 3]]], [SCORES[:20]], 0.2)),
    ("bbox_overlaps", ([BOXES[:7]], [BOXES[7:12]], "iof", False, 1)),
    ("box_iou_rotated", ([TURNED[:7]], [TURNED[7:12]], "iou", False, False)),
    ("box_iou_quadri", ([QUADRILATERALS], [QUADRILATERALS + 2], "iof", True)),
    ("boxes_overlap_bev", ([CUBOIDS[:7]], [CUBOIDS[7:]])),
    ("boxes_iou3d", ([CUBOIDS[:7]], [CUBOIDS[7:]])),
    ("boxes_iou_bev", ([BIRDS_EYE[:7]], [BIRDS_EYE[7:]])),
    ("nms_bev", ([BIRDS_EYE], [SCORES[:20]], 0.1, 15, 4)),
    ("nms_normal_bev", ([BIRDS_EYE], [SCORES[:20]], 0.1)),
    ("nms3d", ([CUBOIDS], [SCORES[:20]], 0.1)),
    ("nms3d_normal", ([CUBOIDS], [SCORES[:20]], 0.1)),
    ("diff_iou_rotated_2d", (TURNED[None, :10], TURNED[None, 10:])),
    ("diff_iou_rotated_3d", (CUBOIDS[None, :10], CUBOIDS[None, 10:])),
    ("convex_iou", ([POINT_SETS], [QUADRILATERALS])),
    ("convex_giou", ([POINT_SETS], [QUADRILATERALS])),
    ("min_area_polygons", ([POINT_SETS],)),
    ("points_in_polygons", ([torch.rand(9, 2) * 10], [QUADRILATERALS])),
    ("points_in_boxes_part", ([CLOUD[None, :, :3]], [BOXES_3D[None]])),
    ("points_in_boxes_all", ([CLOUD[None, :, :3]], [BOXES_3D[None]])),
    ("points_in_boxes_cpu", ([CLOUD[None, :, :3]], [BOXES_3D[None]])),
    ("contour_expand", ([(REGIONS[None] >= 0).int()], [REGIONS], 5, 3)),
    ("pixel_group", (*([each.numpy()] for each in SCORE_MAPS), [REGIONS.numpy()], [REGIONS.numpy()], 3, 0.6)),
    ("point_sample", (FEATURES, [torch.rand(2, 9, 2)], True)),
    ("point_sample", (FEATURES, [torch.rand(2, 3, 4, 2)])),
    ("rel_roi_point_to_rel_img_point", ([ROIS], [torch.rand(3, 9, 2)], (20, 24), 0.25)),
    ("rel_roi_point_to_rel_img_point", ([ROIS], [torch.rand(3, 9, 2)], [FEATURES])),
    ("rotated_feature_align", (FEATURES, [torch.rand(2, 20, 24, 5) * 9], 0.5, 5)),
    (
        "active_rotated_filter",
        (
            torch.randn(3, 2, 2, 3, 3),
            [torch.stack([torch.randperm(18) for _ in range(4)], 1).view(2, 3, 3, 4).int() + 1],
        ),
    ),
    ("masked_conv2d", ([FEATURES[:1]], [torch.rand(1, 20, 24) - 0.5], [torch.randn(3, 8, 3, 3)], [torch.rand(3)], 1)),
    ("fused_bias_leakyrelu", (torch.randn(3, 24), torch.randn(24), 0.1, 2.0)),
    ("upfirdn2d", (FEATURES, [torch.rand(3, 4)], 2, [1, 2], [1, 2, -1, 3], False, 1.5)),
    ("upfirdn2d", (FEATURES, [torch.rand(4)], [2, 1], 1, 1, True)),
    ("ball_query", (0.1, 0.4, 5, [POINTS], [CENTERS])),
    ("knn", (5, [POINTS], [CENTERS], False)),
    ("knn", (5, [POINTS.transpose(1, 2)], [CENTERS.transpose(1, 2)], True)),
    ("furthest_point_sample", ([POINTS], 9)),
    ("furthest_point_sample_with_dist", ([torch.cdist(POINTS, POINTS)], 9)),
    ("gather_points", (POINT_FEATURES, [NEAREST[:, :, 0].contiguous()])),
    ("grouping_operation", (POINT_FEATURES, [NEAREST])),
    (
        "grouping_operation",
        (
            torch.randn(7, 4),
            [torch.tensor([[0, 1], [2, 0], [3, 2]]).int()],
            *([torch.tensor(each).int()] for each in ((3, 4), (2, 1))),
        ),
    ),
    ("three_nn", ([POINTS], [CENTERS])),
    ("three_interpolate", (POINT_FEATURES, [NEAREST], [torch.rand(2, 7, 3)])),
    (
        "assign_score_withk",
        (torch.rand(2, 7, 3, 4), torch.randn(2, 60, 4, 5), torch.randn(2, 60, 4, 5), [NEAREST]),
    ),
    ("chamfer_distance", (torch.rand(2, 9, 2), torch.rand(2, 6, 2))),
    ("dynamic_scatter", (CLOUD, [CELLS], "max")),
    ("voxelization", ([CLOUD], [[1.0, 1, 2]], [[0.0, 0, 0, 10, 10, 10]], 3, 9)),
    ("scatter_nd", ([torch.tensor([[0, 1], [2, 0]])], torch.randn(2, 3), [[3, 2, 3]])),
]


@pytest.mark.parametrize(("name", "inputs"), FUNCTIONS)
def test_functions(name: str, inputs: tuple[Any, ...]) -> None:
    homes = [getattr(THEIRS, name, None) or getattr(THEIRS.sparse_structure, name), getattr(mmcv_ops, name)]
    (expected, expected_grads), (results, grads) = (_run(function, inputs) for function in homes)
    torch.testing.assert_close(results, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(grads, expected_grads, rtol=0, atol=1e-4)


def _parameters(member: Any) -> list[tuple[str, Any]]:
    if inspect.ismethod(member):  # `apply` of an autograd function
        member = vars(member.__self__)["forward"]
    found = [(each.name, each.default) for each in inspect.signature(member).parameters.values()]
    return [(name, tuple(value) if isinstance(value, list) else value) for name, value in found if name != "ctx"]


# These take any arguments in mmcv, or are those of torch.
@pytest.mark.parametrize(
    "name",
    sorted({*THEIRS.__all__} - {*mmcv_ops.MISSING, "Conv2d", "ConvTranspose2d", "Linear", "MaxPool2d", "TINShift"}),
)
def test_arguments(name: str) -> None:
    ours, theirs = _parameters(getattr(mmcv_ops, name)), _parameters(getattr(THEIRS, name))
    assert ours[: len(theirs)] == theirs
    assert inspect.Parameter.empty not in [default for _, default in ours[len(theirs) :]]


def test_every_name_of_mmcv_is_available_or_listed_as_missing() -> None:
    assert {*THEIRS.__all__} - {*mmcv_ops.__all__} == {*mmcv_ops.MISSING}


def test_weights_of_ordinary_and_old_layers_are_loaded() -> None:
    torch.manual_seed(0)
    ordinary = nn.Conv2d(8, 8, 3, padding=1).state_dict()
    old = {f"layer_offset.{name}": value for name, value in nn.Conv2d(8, 18, 3).state_dict().items()}
    for name, state, prefix in (("SAConv2d", ordinary, ""), ("DeformConv2dPack", old, "layer.")):
        states = []
        for home in (THEIRS, mmcv_ops):
            torch.manual_seed(0)
            layer = getattr(home, name)(8, 8, 3, padding=1)
            owner = nn.ModuleDict({"layer": layer}) if prefix else layer
            owner.load_state_dict(dict(state), strict=False)
            states.append(layer.state_dict())
        torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-6)
