"""Postprocessing of detections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from footplate.data.structures import InstanceData
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.messages import nearest
from footplate.tasks.detection.boxes import clip_boxes, nms
from footplate.tasks.detection.sample import DetDataSample


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Selects the predictions of an image to keep.

    Args:
        score_thr: The minimum score.
        nms_pre: The maximum number of predictions before non-maximum suppression.
        nms_iou_thr: The IoU threshold of the class-wise non-maximum suppression; None disables it.
        max_per_img: The maximum number of predictions to keep.

    Raises:
        ArgumentError: A threshold is not between 0 and 1, or a number is not positive.
    """

    score_thr: float = 0.05
    nms_pre: int = 300
    nms_iou_thr: float | None = 0.6
    max_per_img: int = 100

    def __post_init__(self) -> None:
        for name in ("score_thr", "nms_iou_thr"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ArgumentError(f"{name} lies between 0 and 1", key=name, found=value)
        for name in ("nms_pre", "max_per_img"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} is at least 1", key=name, found=getattr(self, name))

    @classmethod
    def of(cls, test_cfg: Mapping[str, Any] | None, **defaults: Any) -> "Selection":
        """Builds a selection from a config.

        Raises:
            ArgumentError: A key is unknown or a value is invalid.
        """
        known = [field.name for field in fields(cls)]
        for name in test_cfg or ():
            if name not in known:
                raise ArgumentError(f"there is no '{name}'", key=f"test_cfg.{name}", suggestion=nearest(name, known))
        with at_key("test_cfg"):
            return cls(**{**defaults, **(test_cfg or {})})

    def __call__(self, scores: Tensor, boxes: Tensor, sample: DetDataSample) -> InstanceData:
        """Returns the instances of an image, the best first, in pixels of the original image.

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
            chosen = clip_boxes(chosen, sample.img_shape[:2])
        if self.nms_iou_thr is not None:
            stays = nms(chosen, best, self.nms_iou_thr, labels=labels)
            best, labels, chosen = best[stays], labels[stays], chosen[stays]
        chosen = chosen / chosen.new_tensor(tuple(sample.get("scale_factor", (1.0, 1.0))) * 2)
        most = self.max_per_img
        return InstanceData(bboxes=chosen[:most], scores=best[:most], labels=labels[:most])


def true_instances(data_samples: Sequence[DetDataSample] | None, num_classes: int) -> list[InstanceData]:
    """Returns the true instances of each image of a batch.

    Raises:
        DataError: The ground truth is missing, or has a class out of range.
    """
    if not data_samples or any("gt_instances" not in sample for sample in data_samples):
        raise DataError("the loss needs the truth of every picture: 'gt_instances' in its data sample")
    instances = [sample.gt_instances for sample in data_samples]
    labels = torch.cat([each.labels for each in instances])
    # Only checked on the CPU, since reading from an accelerator would synchronize every step.
    if labels.numel() and labels.device.type == "cpu":
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= num_classes:
            raise DataError(
                f"the truth has class {low if low < 0 else high}, the model {num_classes} classes",
                key="model.num_classes",
            )
    return instances


def filled(
    data_samples: Sequence[DetDataSample] | None, scores: Tensor, boxes: Tensor, select: Selection
) -> list[DetDataSample]:
    """Sets the predictions of the samples of a batch; creates samples if none are given.

    Args:
        data_samples: One sample for each image.
        scores: ``(N, P, C)``, 0 to 1.
        boxes: ``(N, P, 4)``, x1 y1 x2 y2 in pixels of the model's input.
        select: The selection of the predictions to keep.
    """
    samples = list(data_samples) if data_samples is not None else [DetDataSample() for _ in scores]
    for sample, score, box in zip(samples, scores, boxes, strict=True):
        sample.pred_instances = select(score, box, sample)
    return samples
