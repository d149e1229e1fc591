"""Tests the operators of `torch.ops.footplate_operators`. Runs without footplate."""

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch._inductor.config
from torch import Tensor

from footplate_operators import functional
from footplate_operators.registration import OPERATORS, Operator

_Call = tuple[Callable[..., Any], tuple[Any, ...]]


def _random(*shape: int, scale: float = 1.0) -> Tensor:
    """Returns values from 0 to `scale`, without a gradient."""
    return torch.rand(shape, generator=_generator) * scale


def _leaf(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_generator).requires_grad_()


_generator = torch.Generator().manual_seed(0)
_corners = _random(8, 2, scale=20)
_boxes = torch.cat((_corners, _corners + 1 + _random(8, 2, scale=12)), 1)
_scores = _random(8)
_rotated = torch.cat((_random(6, 2, scale=4), 1 + _random(6, 2, scale=4), _random(6, 1, scale=3)), 1)
_quadrilaterals = torch.tensor([[0.0, 0, 4, 0, 4, 3, 0, 3], [1, 1, 5, 2, 4, 5, 0, 4], [8, 8, 9, 8, 9, 9, 8, 9]])
_solids = torch.cat((_random(5, 3, scale=2), 1 + _random(5, 3, scale=2), _random(5, 1, scale=3)), 1)
_point_sets = _random(3, 18, scale=4)
_rois = torch.tensor([[0.0, 1, 1, 5, 6], [1, 0, 0, 7, 7], [0, 2, 2, 3, 3]])
_rotated_rois = torch.tensor([[0.0, 3, 3, 4, 5, 0.4], [1, 4, 4, 3, 6, 1.2]])
_beziers = torch.tensor([[0.0, 1, 1, 3, 0, 5, 1, 7, 2, 7, 6, 5, 5, 3, 5, 1, 6]])
_classes = torch.tensor([0, 2, 3, 1])
_cloud, _centers = _random(2, 9, 3, scale=3), _random(2, 4, 3, scale=3)
_counts = torch.tensor([9, 9], dtype=torch.int), torch.tensor([4, 4], dtype=torch.int)
_neighbors = torch.randint(9, (2, 4, 3), generator=_generator, dtype=torch.int)
_voxels = torch.tensor([[0, 0, 1], [0, 0, 1], [0, 2, 1], [-1, -1, -1], [1, 0, 0]], dtype=torch.int)
_cells = torch.tensor([[0, 0, 0], [0, 1, 2], [0, 3, 3], [1, 2, 1]], dtype=torch.int)
_pairs = functional.get_indice_pairs(_cells, 2, [4, 4], stride=2, padding=1)
_text = torch.zeros(5, 6, dtype=torch.int)
_text[2, 1], _text[2, 4] = 1, 2
_filter_positions = torch.stack(
    [torch.randperm(18, generator=_generator).view(2, 3, 3) + 1 for _ in range(4)], -1
).int()

_SAMPLES: dict[str, _Call] = {
    "nms": (functional.nms, (_boxes, _scores, 0.3, 0, 0.2, 5)),
    "soft_nms": (functional.soft_nms, (_boxes, _scores)),
    "batched_nms": (
        functional.batched_nms,
        (_boxes, _scores, torch.arange(8) % 3, {"type": "nms", "iou_threshold": 0.3}),
    ),
    "nms_match": (functional.nms_match, (torch.cat((_boxes, _scores[:, None]), 1), 0.3)),
    "nms_rotated": (functional.nms_rotated, (_rotated, _scores[:6], 0.1, torch.arange(6) % 2)),
    "nms_quadri": (functional.nms_quadri, (_quadrilaterals, _scores[:3], 0.1)),
    "bbox_overlaps": (functional.bbox_overlaps, (_boxes, _boxes[:3])),
    "box_iou_rotated": (functional.box_iou_rotated, (_rotated, _rotated[:2], "iof", False, False)),
    "box_iou_quadri": (functional.box_iou_quadri, (_quadrilaterals, _quadrilaterals.flip(0), "iou", True)),
    "convex_iou": (functional.convex_iou, (_point_sets, _quadrilaterals)),
    "convex_giou": (functional.convex_giou, (_point_sets, _quadrilaterals)),
    "min_area_polygons": (functional.min_area_polygons, (_point_sets,)),
    "points_in_polygons": (functional.points_in_polygons, (_corners / 4, _quadrilaterals)),
    "boxes_iou3d": (functional.boxes_iou3d, (_solids, _solids[:2])),
    "nms3d": (functional.nms3d, (_solids, _scores[:5], 0.1)),
    "roi_align": (functional.roi_align, (_leaf(2, 4, 8, 8), _rois, 2)),
    "roi_align_max": (functional.roi_align, (_leaf(2, 4, 8, 8), _rois, (2, 3), 0.5, 2, "max", False)),
    "roi_pool": (functional.roi_pool, (_leaf(2, 4, 8, 8), _rois, 2)),
    "roi_align_rotated": (functional.roi_align_rotated, (_leaf(2, 4, 8, 8), _rotated_rois, 2, 1.0)),
    "riroi_align_rotated": (functional.riroi_align_rotated, (_leaf(2, 8, 8, 8), _rotated_rois, 2, 1.0, 2, 4)),
    "bezier_align": (functional.bezier_align, (_leaf(2, 4, 8, 8), _beziers, (2, 4))),
    "deform_roi_pool": (functional.deform_roi_pool, (_leaf(2, 4, 8, 8), _rois, _leaf(3, 2, 2, 2), 2)),
    "rotated_feature_align": (
        functional.rotated_feature_align,
        (_leaf(2, 4, 3, 3), _random(2, 3, 3, 5, scale=3), 1.0, 5),
    ),
    "deform_conv2d": (functional.deform_conv2d, (_leaf(2, 4, 6, 6), _leaf(2, 18, 3, 3), _leaf(4, 2, 3, 3), 2, 1, 1, 2)),
    "modulated_deform_conv2d": (
        functional.modulated_deform_conv2d,
        (_leaf(2, 4, 5, 5), _leaf(2, 36, 5, 5), _leaf(2, 18, 5, 5), _leaf(3, 4, 3, 3), _leaf(3), 1, 1, 1, 1, 2),
    ),
    "multi_scale_deformable_attn": (
        functional.multi_scale_deformable_attn_pytorch,
        (
            _leaf(2, 20, 2, 3),
            torch.tensor([[4, 4], [2, 2]]),
            _random(2, 5, 2, 2, 3, 2).requires_grad_(),
            _random(2, 5, 2, 2, 3).requires_grad_(),
        ),
    ),
    "sigmoid_focal_loss": (functional.sigmoid_focal_loss, (_leaf(4, 3), _classes, 2.0, 0.25, _random(3))),
    "softmax_focal_loss": (functional.softmax_focal_loss, (_leaf(4, 3), _classes, 2.0, 0.25, None, "none")),
    "carafe": (functional.carafe, (_leaf(2, 4, 3, 3), _leaf(2, 18, 6, 6), 3, 2, 2)),
    "psa_mask": (functional.psa_mask, (_leaf(2, 15, 3, 4), "distribute", (3, 5))),
    "masked_conv2d": (
        functional.masked_conv2d,
        (_random(1, 2, 5, 5), _random(1, 5, 5) - 0.5, _random(3, 2, 3, 3), _random(3), 1),
    ),
    "active_rotated_filter": (functional.active_rotated_filter, (_leaf(3, 2, 2, 3, 3), _filter_positions)),
    "upfirdn2d": (functional.upfirdn2d, (_leaf(2, 3, 6, 5), _random(4, 3), (2, 1), (1, 2), (2, 1, 0, -1), True, 2.0)),
    "fused_bias_leakyrelu": (functional.fused_bias_leakyrelu, (_leaf(2, 3, 4), _leaf(3))),
    "tin_shift": (functional.tin_shift, (_leaf(2, 4, 4, 3), torch.tensor([[1, -1], [0, 2]], dtype=torch.int))),
    "contour_expand": (functional.contour_expand, (torch.ones(2, 5, 6, dtype=torch.uint8), _text, 1, 3)),
    "pixel_group": (
        functional.pixel_group,
        (_random(5, 6), torch.ones(5, 6, dtype=torch.bool), _random(5, 6, 4), _text, _text, 3, 0.8),
    ),
    "voxelization": (functional.voxelization, (_random(20, 4), (0.5, 0.5, 0.5), (0, 0, 0, 1, 1, 1), 3, 6)),
    "dynamic_voxelization": (functional.voxelization, (_random(20, 4), (0.5, 0.5, 0.5), (0, 0, 0, 1, 1, 1), -1)),
    "dynamic_scatter": (functional.dynamic_scatter, (_leaf(5, 3), _voxels)),
    "points_in_boxes_part": (functional.points_in_boxes_part, (_cloud, _solids[None].expand(2, -1, -1))),
    "points_in_boxes_all": (functional.points_in_boxes_all, (_cloud, _solids[None].expand(2, -1, -1))),
    "furthest_point_sample": (functional.furthest_point_sample, (_cloud, 4)),
    "furthest_point_sample_with_dist": (functional.furthest_point_sample_with_dist, (torch.cdist(_cloud, _cloud), 4)),
    "ball_query": (functional.ball_query, (0, 1.5, 3, _cloud, _centers)),
    "stack_ball_query": (functional.ball_query, (0, 1.5, 3, _cloud.flatten(0, 1), _centers.flatten(0, 1), *_counts)),
    "knn": (functional.knn, (3, _cloud.mT, _centers.mT, True)),
    "three_nn": (functional.three_nn, (_cloud, _centers)),
    "gather_points": (functional.gather_points, (_leaf(2, 5, 9), _neighbors[..., 0])),
    "grouping_operation": (functional.grouping_operation, (_leaf(2, 5, 9), _neighbors)),
    "stack_grouping_operation": (
        functional.grouping_operation,
        (_leaf(18, 5), _neighbors.flatten(0, 1), *_counts),
    ),
    "three_interpolate": (functional.three_interpolate, (_leaf(2, 5, 9), _neighbors, _random(2, 4, 3))),
    "assign_score_withk": (
        functional.assign_score_withk,
        (_leaf(2, 4, 3, 2), _leaf(2, 9, 2, 5), _leaf(2, 9, 2, 5), _neighbors),
    ),
    "chamfer_distance": (functional.chamfer_distance, (_leaf(2, 5, 2), _leaf(2, 4, 2))),
    "roiaware_pool3d": (functional.roiaware_pool3d, (_solids, _cloud[0], _leaf(9, 4), 2, 5, 0)),
    "roipoint_pool3d": (
        functional.roipoint_pool3d,
        (_cloud, _random(2, 9, 4), _solids[None].expand(2, -1, -1).contiguous(), 3),
    ),
    "get_indice_pairs": (functional.get_indice_pairs, (_cells, 2, [4, 4], 3, 2, 1)),
    "indice_conv": (functional.indice_conv, (_leaf(4, 3), _leaf(3, 3, 3, 2), *_pairs[1:], len(_pairs[0]))),
    "indice_maxpool": (functional.indice_maxpool, (_leaf(4, 3), *_pairs[1:], len(_pairs[0]))),
}
# The results of these functions are lists whose lengths depend on values.
_LISTS = ("nms_match", "contour_expand", "pixel_group")


def _tensors(values: Any) -> list[Tensor]:
    results = values if isinstance(values, tuple) else (values,)
    return [value for value in results if isinstance(value, Tensor)]


def _gradients(results: Any, arguments: tuple[Any, ...]) -> list[Tensor]:
    """Returns the gradients with respect to all arguments that require one."""
    leaves = [value for value in _tensors(arguments) if value.requires_grad]
    total = sum(value.square().sum() for value in _tensors(results) if value.requires_grad)
    return [*torch.autograd.grad(total, leaves)] if isinstance(total, Tensor) else []


@contextmanager
def _recorded() -> Iterator[list[tuple[Operator[..., Any], tuple[Any, ...]]]]:
    calls: list[tuple[Operator[..., Any], tuple[Any, ...]]] = []
    original = Operator.__call__

    def record(self: Operator[..., Any], *arguments: Any) -> Any:
        calls.append((self, arguments))
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Operator, "__call__", record)
        yield calls


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # by opcheck of PyTorch 2.14
@pytest.mark.parametrize("name", _SAMPLES)
def test_operators_pass_the_checks_of_torch(name: str) -> None:
    function, arguments = _SAMPLES[name]
    with _recorded() as calls:
        _gradients(function(*arguments), arguments)
    assert calls
    for called, values in calls:
        leaves = [
            value.detach().requires_grad_(called.has_gradient and value.requires_grad)
            if isinstance(value, Tensor)
            else value
            for value in values
        ]
        operator = getattr(torch.ops.footplate_operators, called.name).default
        # The graph of an operator contains the one that computes its gradient.
        checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
        torch.library.opcheck(
            operator, tuple(leaves), test_utils=checks[:3] if called.name.endswith("_backward") else checks
        )


@pytest.fixture(autouse=True)
def _dynamic_sizes() -> Iterator[None]:
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):  # not the default in PyTorch 2.9
        yield


def _compiled(function: Callable[..., Any], backend: str = "aot_eager") -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=backend)


@pytest.mark.parametrize("name", [name for name in _SAMPLES if name not in _LISTS])
def test_compiled_functions_return_the_same(name: str) -> None:
    function, arguments = _SAMPLES[name]
    expected, found = function(*arguments), _compiled(function)(*arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(_gradients(found, arguments), _gradients(expected, arguments))


@pytest.mark.parametrize("name", _LISTS)
def test_compiled_operators_of_lists_return_the_same(name: str) -> None:
    function, arguments = _SAMPLES[name]
    with _recorded() as calls:
        function(*arguments)
    ((called, values),) = calls
    expected = called(*values)
    torch.testing.assert_close(_compiled(called)(*values), expected, rtol=0, atol=0)


class _Module(torch.nn.Module):
    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.function, self.arguments = function, arguments

    def forward(self, *tensors: Tensor) -> Any:
        values = iter(tensors)
        return self.function(*(next(values) if isinstance(value, Tensor) else value for value in self.arguments))


@pytest.mark.parametrize("name", [name for name in _SAMPLES if name not in _LISTS])
def test_exported_graphs_contain_the_operators(name: str) -> None:
    function, arguments = _SAMPLES[name]
    with _recorded() as calls:
        function(*arguments)
    program = torch.export.export(_Module(function, arguments), tuple(_tensors(arguments)))
    targets = [node.target for node in program.graph.nodes]
    for called, _ in calls:
        assert getattr(torch.ops.footplate_operators, called.name).default in targets


def test_all_operators_are_tested() -> None:
    names = set()
    for function, arguments in _SAMPLES.values():
        with _recorded() as calls:
            _gradients(function(*arguments), arguments)
        names |= {called.name for called, _ in calls}
    assert names == set(OPERATORS)


def test_operators_are_copied_and_pickled_by_name() -> None:
    assert copy.deepcopy(functional.convex_iou) is functional.convex_iou
    assert pickle.loads(pickle.dumps(functional.convex_iou)) is functional.convex_iou  # noqa: S301


@pytest.mark.parametrize("name", _SAMPLES)
def test_vmap_is_a_loop_over_samples(name: str) -> None:
    function, arguments = _SAMPLES[name]
    with _recorded() as calls:
        _gradients(function(*arguments), arguments)
    for called, values in calls:
        if called.dynamic:
            continue
        for mapped in (called.batched, called.parameters):
            dims = tuple(
                0 if parameter in mapped and isinstance(value, Tensor) else None
                for parameter, value in zip(called.parameters, values, strict=True)
            )
            if dims.count(0):
                others = [
                    value / 2 if isinstance(value, Tensor) and value.is_floating_point() else value for value in values
                ]
                pairs = list(zip(dims, values, others, strict=True))
                stacked = [value if dim is None else torch.stack((value, other)) for dim, value, other in pairs]
                found = torch.vmap(called, in_dims=dims)(*stacked)
                second = [value if dim is None else other for dim, value, other in pairs]
                for result, *parts in zip(*map(_tensors, (found, called(*values), called(*second))), strict=True):
                    torch.testing.assert_close(result, torch.stack(parts))


@pytest.mark.parametrize("name", _SAMPLES)
def test_autocast_keeps_the_dtype_or_computes_in_float32(name: str) -> None:
    function, arguments = _SAMPLES[name]
    with _recorded() as calls, torch.no_grad():
        function(*arguments)
    for called, values in calls:
        halves = [
            value.bfloat16() if isinstance(value, Tensor) and value.is_floating_point() else value for value in values
        ]
        with torch.autocast("cpu", torch.bfloat16):
            results = _tensors(called(*halves))
        expected = {called.autocast or torch.bfloat16}
        assert {result.dtype for result in results if result.is_floating_point()} <= expected | {torch.double}


def test_second_derivatives_raise_an_error() -> None:
    features = _leaf(2, 4, 8, 8)
    loss = functional.roi_align(features, _rois, 2).square().sum()
    (gradient,) = torch.autograd.grad(loss, features, create_graph=True)
    with pytest.raises(RuntimeError, match="roi_align_backward.default but no autograd formula was registered"):
        torch.autograd.grad(gradient.sum(), features)


@pytest.mark.parametrize("name", ["upfirdn2d", "fused_bias_leakyrelu"])
def test_second_derivatives_of_generators(name: str) -> None:
    function, arguments = _SAMPLES[name]
    doubles = [value.detach().double() if isinstance(value, Tensor) else value for value in arguments]
    doubles[0].requires_grad_()
    assert torch.autograd.gradgradcheck(function, tuple(doubles))


class _Detector(torch.nn.Module):
    """Pools features at boxes whose number depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.offset = torch.nn.Conv2d(4, 18, 3, padding=1)
        self.weight = torch.nn.Parameter(_random(4, 4, 3, 3))

    def forward(self, images: Tensor, boxes: Tensor, scores: Tensor) -> Tensor:
        features = self.backbone(images).relu()
        features = functional.deform_conv2d(features, self.offset(features), self.weight, padding=1)
        kept, _ = functional.nms(boxes, scores, 0.3)
        rois = torch.cat((torch.zeros_like(kept[:, :1]), kept[:, :4]), 1)
        return functional.roi_align(features, rois, 2, 0.25).sigmoid().mean((0, 2, 3)) * 3


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_inductor_compiles_a_detector() -> None:
    model, inputs = _Detector(), (_random(1, 3, 8, 8), _boxes, _scores)
    with torch._inductor.config.patch(compile_threads=1):  # no pool of processes
        expected, found = model(*inputs), _compiled(model, "inductor")(*inputs)
    torch.testing.assert_close(found, expected)
    parameters = [*model.parameters()]
    gradients = [torch.autograd.grad(result.sum(), parameters) for result in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1])
