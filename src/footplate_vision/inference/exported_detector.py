"""Exports detectors to ONNX with their postprocessing, including non-maximum suppression.

The export traces the detector's own `predict`. A trace contains only the operations that ran for the example input.
This module ensures that these operations suit every input, not only the example.
"""

import builtins
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.errors import import_optional
from footplate_operators import nms as boxes_operators
from footplate_vision.detection import detector
from footplate_vision.detection.data import DetDataSample
from footplate_vision.detection.detector import BaseDetector
from footplate_vision.inference.export_formats import INPUT, ExportRequest, adaptive_avg_pool2d
from footplate_vision.inference.exported_file import ExportError
from footplate_vision.inference.exported_model import ExportedModel
from footplate_vision.structures import InstanceData

OPSET = 17
_MASK_HEAD = "mmdet.models.roi_heads.mask_heads.fcn_mask_head"
_MODULES = (
    "mmcv.ops.nms",
    "mmcv.ops.roi_align",
    "mmcv.ops.deform_conv",
    "mmcv.ops.modulated_deform_conv",
    "mmcv.ops.carafe",
    "mmdet.models.dense_heads.tood_head",
    _MASK_HEAD,
    "mmdet.models.seg_heads.panoptic_fusion_heads.maskformer_fusion_head",
    "mmdet.models.roi_heads.roi_extractors.single_level_roi_extractor",
    "mmdet.models.task_modules.coders.delta_xywh_bbox_coder",
)
_FIELDS = {"boxes": "bboxes", "scores": "scores", "labels": "labels", "masks": "masks"}
_is_tracing: Any = torch.jit.is_tracing  # type: ignore[attr-defined]
_register: Any = torch.onnx.register_custom_op_symbolic  # type: ignore[attr-defined]
MINIMUM_SCORE = 0.3
_TRACED = 300


class ExportedDetector(ExportedModel):
    """Computes the boxes, scores and labels of one image, and the masks if the model predicts them.

    Args:
        model: A BaseDetector or an MMDetection detector in evaluation mode. Its `test_cfg` settings are changed so that
            it can be traced.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.is_own = isinstance(model, BaseDetector)
        if isinstance(model, BaseDetector):
            object.__setattr__(model.select, "nms_pre", _Limit(model.select.nms_pre))
        for module in model.modules():
            cfg: Any = getattr(module, "test_cfg", None) or {}
            for key, kind in _TRACEABLE.items():
                if key in cfg and not isinstance(cfg[key], kind):
                    cfg[key] = kind(cfg[key])
            if cfg.get("nms"):
                cfg["nms"]["split_thr"] = 2**31  # otherwise, a loop over classes suppresses boxes if there are many

    def named_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `boxes` of shape ``(K, 4)``, `scores` and `labels` of shape ``(K,)``, and `masks` if there are any.

        Raises:
            ExportError: The predictions have no `pred_instances`.
        """
        inputs = self.preprocess(images)
        size, padded = tuple(images.shape[-2:]), tuple(inputs.shape[-2:])
        meta = {"ori_shape": size, "img_shape": size, "pad_shape": padded, "batch_input_shape": padded}
        sample = DetDataSample(metainfo={"scale_factor": (1.0, 1.0)})
        for name, shape in meta.items():  # `metainfo` would be copied, and the copy of a traced size is a constant
            sample.set_field(shape, name, field_type="metainfo")
        (prediction,) = self.model.predict(inputs, [sample], **({} if self.is_own else {"rescale": False}))
        if "pred_instances" not in prediction:
            raise ExportError(
                f"'{type(self.model).__name__}' cannot be exported, because its predictions have no 'pred_instances'",
                key="model",
                found=", ".join(prediction.keys()),
            )
        found = prediction.pred_instances
        return {name: found[field] for name, field in _FIELDS.items() if field in found}

    def difference(self, outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
        """Returns the largest difference between two sets of instances, regardless of their order.

        Compares each instance with the most similar instance in the other set. Ignores instances with scores below 0.3
        or, if this is lower, below 90 % of the highest expected score. Instances of different classes differ by at
        least 1. Coordinates are divided by the largest coordinate. For masks, the difference is the fraction of pixels
        that differ. Returns infinity if only one of the sets is empty, unless all instances in the other set are
        ignored.
        """
        scale = torch.cat([expected[0].abs().flatten(), torch.ones(1)]).max()
        minimum = min([MINIMUM_SCORE, *(0.9 * expected[1]).sort()[0][-1:].tolist()])
        differences = [0.0]
        for ours, theirs in ((outputs, expected), (expected, outputs)):
            chosen = ours[1] > minimum
            if not chosen.any():
                continue
            if not len(theirs[1]):
                return float("inf")
            rows, others = (
                torch.cat([boxes / scale, scores[:, None], labels[:, None]], dim=1).double()
                for boxes, scores, labels, *_ in (ours, theirs)
            )
            distances, nearest = torch.cdist(rows[chosen], others, p=float("inf")).min(dim=1)
            differences += distances.tolist()
            masks = zip(ours[3:], theirs[3:], strict=True)
            differences += [float((one[chosen] != other[nearest]).double().mean()) for one, other in masks]
        return max(differences)


class _Minimum:
    """A lower limit for values.

    During tracing, treats a fixed subset of the values as above the limit, regardless of the example input.
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def __lt__(self, values: Any) -> Any:  # values > limit
        above = values > self.value
        if not _is_tracing():
            return above
        example = torch.zeros_like(above).flatten()
        example[:: max(2, int(above.numel()) // _TRACED)] = True
        return torch.ops.footplate.only_traced(above, example.view_as(above))

    __le__ = __lt__

    def __ge__(self, value: Any) -> Any:
        return self.value >= value


class _Limit:
    """A limit on the number of values.

    During tracing, every count is treated as greater than the limit, so that the truncation is always traced.
    """

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    def __lt__(self, count: Any) -> bool:
        return bool(_is_tracing() or self.value < count)

    def __gt__(self, count: Any) -> bool:
        return not isinstance(count, Tensor) and self.value > count  # a traced size is a tensor


_TRACEABLE = {"score_thr": _Minimum, "min_bbox_size": _Minimum, "nms_pre": _Limit}


def _all_levels(levels: Tensor, count: int) -> Tensor:
    """Returns the feature level of each RoI.

    During tracing, spreads the RoIs over all levels, so that each level is traced.
    """
    if _is_tracing():
        levels = torch.ops.footplate.only_traced(levels, torch.arange(levels.shape[0]) % count)
    return levels


@torch.library.custom_op("footplate::only_traced", mutates_args=())
def _only_traced(value: Tensor, example: Tensor) -> Tensor:
    """Returns `example` during tracing, whereas the exported operator returns `value`."""
    return example.clone()


@torch.library.custom_op("footplate::nms", mutates_args=())
def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return boxes_operators.nms(boxes, scores, iou_threshold, 0)


def _traced_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    if offset:
        raise NotImplementedError("ONNX does not support non-maximum suppression with an offset")
    return torch.ops.footplate.nms(boxes, scores, iou_threshold)  # type: ignore[no-any-return]


def _traced_nms_by_class(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Does what `nms` does, without a branch for images without boxes."""
    corners = F.pad(boxes, (0, 0, 0, 1))
    moved = boxes + labels[:, None] * (corners.max() - corners.min() + 1)
    return _traced_nms(moved, scores, iou_threshold, 0)


def _traced_topk(values: Tensor, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    limit: Any = torch.minimum(torch.as_tensor(values.shape[dim]), torch.tensor(int(k)))
    return torch.topk(values, limit, dim, largest, sorted)


def _constant(g: Any, value: Any) -> Any:
    return g.op("Constant", value_t=torch.tensor(value))


def _nms_in_onnx(g: Any, boxes: Any, scores: Any, iou_threshold: Any) -> Any:
    boxes = g.op("Unsqueeze", boxes, _constant(g, [0]))
    scores = g.op("Unsqueeze", scores, _constant(g, [0, 1]))
    limit = g.op("Cast", iou_threshold, to_i=1)
    kept = g.op("NonMaxSuppression", boxes, scores, _constant(g, [2**31 - 1]), limit)
    return g.op("Gather", kept, _constant(g, 2), axis_i=1)


def _sigmoid_in_onnx(g: Any, value: Any) -> Any:
    """Exports a sigmoid as its formula.

    For small scores, onnxruntime's `Sigmoid` returns 0. Such scores would tie, and the exported file would keep
    different proposals than the model.
    """
    one = _constant(g, 1.0)
    return g.op("Div", one, g.op("Add", one, g.op("Exp", g.op("Neg", value))))


def _roi_align_in_onnx(
    g: Any, features: Any, rois: Any, size: Any, scale: float, sampling_ratio: int, mode: str, aligned: bool
) -> Any:
    def columns(indices: Any) -> Any:
        return g.op("Gather", rois, _constant(g, indices), axis_i=1)

    return g.op(
        "RoiAlign",
        features,
        columns([1, 2, 3, 4]),
        g.op("Cast", columns(0), to_i=7),
        coordinate_transformation_mode_s="half_pixel" if aligned else "output_half_pixel",
        output_height_i=size[0],
        output_width_i=size[1],
        spatial_scale_f=scale,
        sampling_ratio_i=max(0, sampling_ratio),
        mode_s=mode,
    )


def _paste_masks(
    head: Any,
    mask_preds: Tensor,
    bboxes: Tensor,
    labels: Tensor,
    img_meta: Any,
    rcnn_test_cfg: Any,
    activate_map: bool = False,
    **_: Any,
) -> Tensor:
    """Pastes all masks of a mask head at once, unlike the head's own method, which loops over the masks.

    If `activate_map` is True, `mask_preds` are probabilities: the averages over the stages of a cascade.
    """
    height, width = img_meta["img_shape"]
    masks = mask_preds if activate_map else mask_preds.sigmoid()
    if not head.class_agnostic:
        masks = masks[torch.arange(labels.shape[0]), labels][:, None]
    pasted, _ = import_module(_MASK_HEAD)._do_paste_mask(masks, bboxes, height, width, skip_empty=False)
    return pasted >= rcnn_test_cfg.mask_thr_binary  # type: ignore[no-any-return]


def _boxes_of_masks(masks: Tensor) -> Tensor:
    """Returns the boxes around masks of shape (N, H, W) without looping. The box of an empty mask is all zeros."""
    ends = []
    for dim in (1, 2):
        occupied = masks.any(dim).int()
        ends += [occupied.argmax(1), occupied.shape[1] - occupied.flip(1).argmax(1)]
    boxes = torch.stack([ends[index] for index in (0, 2, 1, 3)], dim=1).float()
    return boxes * masks.flatten(1).any(1)[:, None]


def _never_empty(decode: Any) -> Any:
    """Returns a box decoder, wrapped to compute one more box, so that an image without candidates has a box to decode.

    The decoder ends with `reshape(count, -1)`, which onnxruntime rejects for a count of zero.
    """

    def decode_more(boxes: Tensor, deltas: Tensor, *settings: Any) -> Any:
        return decode(F.pad(boxes, (0, 0, 0, 1)), F.pad(deltas, (0, 0, 0, 1)), *settings)[:-1]

    return decode_more


def register_operators() -> None:
    """Registers the ONNX equivalents of this module's operators, and exports `torch.sigmoid` as its formula."""
    _register("aten::sigmoid", _sigmoid_in_onnx, OPSET)
    _register("footplate::nms", _nms_in_onnx, OPSET)
    _register("footplate::only_traced", lambda g, value, example: value, OPSET)


def _forward_of(function: Any) -> Any:
    """Returns an autograd function's `forward`, wrapped to convert traced sizes in its arguments to integers."""

    def forward(*arguments: Any) -> Any:
        fixed = (int(each) if isinstance(each, Tensor) and not each.dim() else each for each in arguments)
        return function.forward(SimpleNamespace(save_for_backward=lambda *tensors: None), *fixed)

    return forward


@contextmanager
def traceable(replaced: Iterable[Any]) -> Iterator[None]:
    """Replaces operations that cannot be traced, and operations for which ONNX has an operator, within the block."""
    register_operators()
    with ExitStack() as stack:
        for replacement in replaced:
            stack.enter_context(patch.object(*replacement))
        yield


_REPLACED = (
    (builtins, "len", lambda values: _length(values)),
    (Tensor, "topk", _traced_topk),
    (detector, "nms", _traced_nms_by_class),
)
"""The operations of footplate's own detectors."""


def _replaced_in_mmdetection() -> Iterable[Any]:
    modules = [import_module(name) for name in _MODULES]
    nms, roi_align, deform, modulated, carafe, tood_head, mask_head, fusion_head, extractor, coder = modules
    deform_conv2d = _forward_of(deform.DeformConv2dFunction)
    levels = extractor.SingleRoIExtractor.map_roi_levels
    return (
        (torch.onnx, "is_in_onnx_export", lambda: False),  # MMDetection 3.3 imports a missing module otherwise
        (builtins, "len", _length),
        (Tensor, "split", _split),
        (torch, "squeeze", _squeeze),
        (F, "adaptive_avg_pool2d", adaptive_avg_pool2d),
        (F, "adaptive_max_pool2d", _adaptive_max_pool2d),
        (F, "max_pool2d", _max_pool2d),
        (nms.ext_module, "nms", _traced_nms),
        (roi_align.RoIAlignFunction, "symbolic", staticmethod(_roi_align_in_onnx)),
        (deform, "deform_conv2d", deform_conv2d),
        (tood_head, "deform_conv2d", deform_conv2d),
        (modulated, "modulated_deform_conv2d", _forward_of(modulated.ModulatedDeformConv2dFunction)),
        (carafe, "carafe", _forward_of(carafe.CARAFEFunction)),
        (mask_head.FCNMaskHead, "_predict_by_feat_single", _paste_masks),
        (fusion_head, "mask2bbox", _boxes_of_masks),
        (extractor.SingleRoIExtractor, "map_roi_levels", lambda *given: _all_levels(levels(*given), given[-1])),
        (coder, "delta2bbox", _never_empty(coder.delta2bbox)),
    )


def write_traced(request: ExportRequest) -> None:
    """Writes an ONNX file by tracing, which records only the operations executed for the example.

    The module is an `ExportedDetector`, or another `ExportedModel` that contains modules of MMDetection.
    """
    onnx = import_optional("onnx", extra="export", why="exporting to ONNX")
    outputs = list(request.names)
    is_detector = "boxes" in outputs
    axes = {INPUT: {dim: "NCHW"[dim] for dim in request.dims}}
    for name, output in zip(outputs, request.module(request.images), strict=True):
        axes[name] = {0: "K"} if is_detector else {}
        if request.dims and output.dim() > 2:
            axes[name] |= {output.dim() - 2: "H", output.dim() - 1: "W"}
    is_own = isinstance(request.module, ExportedDetector) and request.module.is_own
    with traceable(_REPLACED if is_own else _replaced_in_mmdetection()):
        torch.onnx.export(
            request.module,
            (request.images,),
            request.path,
            dynamo=False,
            input_names=[INPUT],
            output_names=outputs,
            opset_version=request.opset,
            dynamic_axes=axes,
        )
    model = onnx.load(request.path)
    if is_detector:
        model.graph.output[outputs.index("boxes")].type.tensor_type.shape.dim[1].dim_value = 4
    onnx.helper.set_model_props(model, request.metainfo)
    onnx.save(model, request.path)


_len = len
_torch_max_pool2d = F.max_pool2d
_torch_split: Any = Tensor.split
_torch_squeeze = torch.squeeze


def _length(values: Any) -> Any:
    """Returns the length of a container. During tracing, `len` would turn the length into a constant."""
    while isinstance(values, InstanceData) and _len(values):
        values = next(iter(values.values()))
    return values.shape[0] if isinstance(values, Tensor) and _is_tracing() else _len(values)


def _max_pool2d(images: Tensor, *sizes: Any, **options: Any) -> Tensor:
    """Applies max pooling. Converts traced kernel sizes to integers, because ONNX supports only constant ones."""
    sizes = tuple(tuple(map(int, size)) if isinstance(size, tuple) else size for size in sizes)
    options = {name: tuple(map(int, size)) if isinstance(size, tuple) else size for name, size in options.items()}
    return _torch_max_pool2d(images, *sizes, **options)  # type: ignore[no-any-return]


def _adaptive_max_pool2d(images: Tensor, output_size: Any) -> Tensor:
    """Applies adaptive max pooling to images of shape ``(..., H, W)``, for any sizes."""
    for dim, count in zip((-2, -1), output_size, strict=True):
        size = images.shape[dim]
        index = torch.arange(count)[:, None]
        ends = ((index + 1) * size + count - 1) // count
        pixels = torch.minimum(index * size // count + torch.arange(size // count + 2), ends - 1)
        images = images.transpose(dim, -1)[..., pixels].amax(-1).transpose(dim, -1)
    return images


def _split(tensor: Tensor, sizes: Any, dim: int = 0) -> Any:
    """Splits a tensor. For a single size, returns ``(tensor,)``, so that the size does not become a constant."""
    if isinstance(sizes, (list, tuple)) and len(sizes) == 1:
        return (tensor,)
    return _torch_split(tensor, sizes, dim)


def _squeeze(tensor: Tensor, *dims: Any) -> Tensor:
    """Removes dimensions of size 1.

    Without `dims`, `torch.squeeze` would turn all sizes into constants during tracing.
    """
    if dims:
        return _torch_squeeze(tensor, *dims)
    for dim in reversed(range(tensor.dim())):
        tensor = tensor.select(dim, 0) if tensor.shape[dim] == 1 else tensor
    return tensor
