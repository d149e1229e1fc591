"""Defines the base class for detectors, detectors from Hugging Face Transformers, and box operations.

Boxes have the format ``x1 y1 x2 y2``, in pixels.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from footplate.checks import check_choice, check_count, check_fraction
from footplate.config.config_dict import to_plain
from footplate.error_context import at_key, with_defaults
from footplate.errors import ArgumentError, import_optional
from footplate.messages import first_line
from footplate.models.package_models import check_offline
from footplate.registry import MODELS
from footplate_operators import nms as operators
from footplate_vision.detection.data import DetDataSample
from footplate_vision.structures import InstanceData
from footplate_vision.task_base import TaskModel, check_classes, check_truth

_TINY = 1e-7  # in pixels; replaces the area of empty boxes in divisions
Samples = Sequence[DetDataSample] | None


class BaseDetector(TaskModel):
    """The base class for detectors. Subclasses override `losses` and `candidates`.

    Args:
        num_classes: The number of classes.
        test_cfg: Arguments for `Selection`, which postprocesses the predictions.
        settings: `data_preprocessor` and `init_cfg`; see `BaseModel`.

    Raises:
        ArgumentError: A value in `test_cfg` is out of range.
        BuildError: `test_cfg` has an unknown key.
    """

    usual_preprocessor = "DetDataPreprocessor"

    def __init__(self, num_classes: int, *, test_cfg: Mapping[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.num_classes = num_classes
        with at_key("test_cfg"):
            self.select: Selection = MODELS.build(with_defaults(test_cfg, type=Selection))

    def outputs(self, inputs: Tensor) -> Any:
        """Returns the scores and boxes of all candidates; see `candidates`."""
        return self.candidates(inputs)

    @abstractmethod
    def losses(self, inputs: Tensor, instances: Sequence[InstanceData]) -> dict[str, Any]:
        """Returns the losses for images of shape ``(N, 3, H, W)``, given the ground-truth instances of each image."""

    @abstractmethod
    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the scores (0 to 1) and the boxes (x1 y1 x2 y2, in pixels of the inputs) of all candidates.

        The scores have shape ``(N, P, C)``, and the boxes have shape ``(N, P, 4)``.
        """

    def loss(self, inputs: Tensor, data_samples: Samples) -> dict[str, Any]:
        """Returns the losses for images of shape ``(N, 3, H, W)``. Each sample needs `gt_instances`.

        Raises:
            DataError: The ground truth is missing, or has a class out of range. Only labels on the CPU are checked.
        """
        instances = [sample.gt_instances for sample in check_truth(data_samples, "gt_instances")]
        labels = torch.cat([each.labels for each in instances])
        # Only checked on the CPU, since reading from an accelerator would synchronize every step.
        if labels.device.type == "cpu":
            check_classes("ground truth", labels, self.num_classes, key="model.num_classes")
        return self.losses(inputs, instances)

    def predict(self, inputs: Tensor, data_samples: Samples) -> list[DetDataSample]:
        """Sets `pred_instances` in each image's sample and returns the samples. Creates samples if none are passed."""
        scores, boxes = self.candidates(inputs)
        samples = data_samples or [DetDataSample() for _ in scores]
        for sample, score, box in zip(samples, scores, boxes, strict=True):
            sample.pred_instances = self.select(score, box, sample)
        return list(samples)

    def predicted_tensors(self, inputs: Tensor) -> dict[str, Tensor]:
        """Returns the `scores` and `boxes` of all candidates, before selection. An ONNX file with NMS selects them."""
        scores, boxes = self.candidates(inputs)
        return {"scores": scores, "boxes": boxes}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Filters the predictions for an image by score, by non-maximum suppression, and by a maximum number.

    Args:
        score_thr: The minimum score, 0 to 1.
        nms_pre: The maximum number of predictions before non-maximum suppression, even if the latter is disabled.
        nms_iou_thr: The IoU threshold of the class-wise non-maximum suppression, 0 to 1; None disables it.
        max_per_img: The maximum number of predictions to keep.

    Raises:
        ArgumentError: A threshold is not between 0 and 1, or a number is not positive.
    """

    score_thr: float = 0.05
    nms_pre: int = 300
    nms_iou_thr: float | None = 0.6
    max_per_img: int = 100

    def __post_init__(self) -> None:
        check_fraction("score_thr", self.score_thr)
        if self.nms_iou_thr is not None:
            check_fraction("nms_iou_thr", self.nms_iou_thr)
        check_count("nms_pre", self.nms_pre)
        check_count("max_per_img", self.max_per_img)

    def __call__(self, scores: Tensor, boxes: Tensor, sample: DetDataSample) -> InstanceData:
        """Returns the selected instances of an image, best first, with boxes in pixels of the original image.

        Args:
            scores: ``(P, C)``, 0 to 1.
            boxes: ``(P, 4)``, x1 y1 x2 y2 in pixels of the model's input.
            sample: The sample of the image. Boxes are clipped to its `img_shape` and divided by its `scale_factor`.
        """
        flat = scores.flatten()
        best, places = flat.topk(min(self.nms_pre, flat.numel()))
        sure = best >= self.score_thr
        best, places = best[sure], places[sure]
        labels = places % scores.shape[1]
        chosen = boxes[places // scores.shape[1]]
        if "img_shape" in sample:
            chosen = torch.minimum(chosen.clamp(min=0), _sides(sample.img_shape[:2], chosen))
        if self.nms_iou_thr is not None:
            stays = nms(chosen, best, labels, self.nms_iou_thr)
            best, labels, chosen = best[stays], labels[stays], chosen[stays]
        chosen = chosen / chosen.new_tensor(tuple(sample.get("scale_factor", (1.0, 1.0))) * 2)
        instances = InstanceData(bboxes=chosen, scores=best, labels=labels)
        return instances[: self.max_per_img]  # type: ignore[no-any-return]


@MODELS.register_module()
class TransformersDetector(BaseDetector):
    """A detector from the DETR family: RT-DETR, Deformable DETR, Conditional DETR, DAB-DETR or DETR.

    Weights are initialized randomly; use `load_from` or `init_cfg=dict(type="Pretrained", ...)` to load a checkpoint.
    For a file that transformers has saved, set `revise_keys=[("^", "detector.")]` in this `init_cfg`.

    Args:
        num_classes: The number of classes.
        config: A dict with the `model_type`, such as "rt_detr", and arguments for the model's config class.
        test_cfg: See `BaseDetector`. By default, it disables non-maximum suppression, which these models do not need.
        settings: `data_preprocessor` and `init_cfg`; see `BaseModel`.

    Raises:
        ArgumentError: Transformers does not support the detection model, or rejects its config.
        MissingExtraError: The package transformers or scipy is not installed.

    Source: Carion et al., "End-to-End Object Detection with Transformers", arXiv:2005.12872; Zhao et al., "DETRs Beat
        YOLOs on Real-time Object Detection", arXiv:2304.08069.
    """

    def __init__(
        self, num_classes: int, *, config: Mapping[str, Any], test_cfg: Mapping[str, Any] | None = None, **settings: Any
    ) -> None:
        super().__init__(num_classes, test_cfg=with_defaults(test_cfg, nms_iou_thr=None), **settings)
        # scipy matches predictions with the ground truth. Without this check, only the first loss would fail.
        for package in ("scipy", "transformers"):
            transformers = import_optional(package, extra="transformers", why="TransformersDetector")
        chosen = to_plain(config)  # transformers serializes plain dicts only
        known = transformers.models.auto.modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES
        name = check_choice("config.model_type", chosen.pop("model_type", None), known)
        check_offline(chosen)
        # The backbone is also built from its config, not downloaded.
        offline = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
        try:
            made = transformers.AutoConfig.for_model(name, **{**offline, **chosen, "num_labels": num_classes})
            self.detector: nn.Module = transformers.AutoModelForObjectDetection.from_config(made)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            message = f"transformers rejected the config of '{name}': {first_line(error)}"
            raise ArgumentError(message, key="config") from error

    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the scores (0 to 1) and the boxes (x1 y1 x2 y2, in pixels of the inputs) of all candidates.

        The scores have shape ``(N, Q, C)``, and the boxes have shape ``(N, Q, 4)``.
        """
        found = self.detector(pixel_values=inputs)
        logits = found.logits.float()
        # Models with a background class have one more score, and use softmax instead of sigmoid.
        shared = logits.shape[-1] == self.num_classes + 1
        scores = logits.softmax(dim=-1)[..., :-1] if shared else logits.sigmoid()
        return scores, from_centers(found.pred_boxes.float()) * _sides(inputs.shape[-2:], inputs)

    def losses(self, inputs: Tensor, instances: Sequence[InstanceData]) -> dict[str, Any]:
        """Returns the total `loss` and its components.

        The components are detached from the graph, and do not include auxiliary losses.
        """
        size = _sides(inputs.shape[-2:], inputs)
        truth = [{"class_labels": each.labels, "boxes": to_centers(each.bboxes) / size} for each in instances]
        found = self.detector(pixel_values=inputs, labels=truth)
        parts = {name.removeprefix("loss_"): value.detach() for name, value in found.loss_dict.items()}
        return {"loss": found.loss, **{name: value for name, value in parts.items() if "aux" not in name}}


def _sides(shape: Sequence[int], like: Tensor) -> Tensor:
    """Converts a shape (height, width) to a float tensor (width, height, width, height) on the device of `like`."""
    height, width = map(torch.as_tensor, shape)  # an export keeps sizes that are tensors
    return torch.stack([width, height, width, height]).to(like.device, torch.float32)


def box_areas(boxes: Tensor) -> Tensor:
    """Returns the areas of boxes of shape ``(..., 4)``. The area of an inverted box is 0.

    Example:
        >>> box_areas(torch.tensor([[0.0, 0.0, 4.0, 3.0], [2.0, 2.0, 1.0, 5.0]])).tolist()
        [12.0, 0.0]
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Returns the IoU of each box in `boxes` with each box in `others`.

    `boxes` have shape ``(..., N, 4)``, `others` have shape ``(..., M, 4)``, and the result has shape ``(..., N, M)``.
    """
    inner = _intersection(boxes[..., :, None, :], others[..., None, :, :])
    union = box_areas(boxes)[..., :, None] + box_areas(others)[..., None, :] - inner
    return inner / union.clamp(min=_TINY)


def aligned_giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Returns the generalized IoU of each box and the box at the same index in `others`. Boxes have shape ``(..., 4)``.

    The values range from -1 to 1.

    Source: Rezatofighi et al., "Generalized Intersection over Union", arXiv:1902.09630.
    """
    inner = _intersection(boxes, others)
    union = box_areas(boxes) + box_areas(others) - inner
    hull = torch.cat([torch.minimum(boxes, others)[..., :2], torch.maximum(boxes, others)[..., 2:]], dim=-1)
    around = box_areas(hull)
    return inner / union.clamp(min=_TINY) - (around - union) / around.clamp(min=_TINY)


def nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Applies class-wise non-maximum suppression. Returns the int64 indices of the remaining boxes, best first.

    If two boxes have equal scores, the first one ranks higher.

    Args:
        boxes: ``(N, 4)``.
        scores: ``(N,)``.
        labels: ``(N,)``; boxes with different labels do not suppress each other.
        iou_threshold: A box is removed if its IoU with a higher-ranked box exceeds this threshold.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]])
        >>> nms(boxes, torch.tensor([0.5, 0.9, 0.1]), torch.tensor([0, 0, 1]), 0.5).tolist()
        [1, 2]
    """
    if len(boxes):  # move the boxes of different labels apart
        boxes = boxes + labels[:, None] * (boxes.max() - boxes.min() + 1)
    return operators.nms(boxes, scores, iou_threshold, 0)


def to_centers(boxes: Tensor) -> Tensor:
    """Converts boxes of shape ``(..., 4)`` from ``x1 y1 x2 y2`` to ``cx cy w h``."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def from_centers(boxes: Tensor) -> Tensor:
    """Converts boxes of shape ``(..., 4)`` from ``cx cy w h`` to ``x1 y1 x2 y2``."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def _intersection(boxes: Tensor, others: Tensor) -> Tensor:
    begin = torch.maximum(boxes[..., :2], others[..., :2])
    sides = (torch.minimum(boxes[..., 2:], others[..., 2:]) - begin).clamp(min=0)
    return sides[..., 0] * sides[..., 1]
