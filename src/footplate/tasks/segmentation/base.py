"""The base class of semantic segmentation models."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.data.structures import PixelData
from footplate.errors import ArgumentError, DataError
from footplate.tasks.model import TaskModel
from footplate.tasks.segmentation.sample import SegDataSample

_AXES = {"horizontal": (-1,), "vertical": (-2,), "diagonal": (-2, -1)}


class BaseSegmentor(TaskModel):
    """Base class of models that compute class scores for every pixel. Subclasses override `score`.

    Args:
        num_classes: The number of classes, including the background.
        ignore_index: Pixels with this label are ignored.
        class_weight: The weight of each class in the loss, ``(num_classes,)``; equal by default.
        flip_test: Whether to average predictions over the image and the flipped image.
        data_preprocessor: See `BaseModel`; usually a SegDataPreProcessor.
        init_cfg: See `BaseModel`.

    Raises:
        ArgumentError: The length of `class_weight` is not `num_classes`.
    """

    usual_preprocessor = "SegDataPreProcessor"

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int = 255,
        class_weight: Sequence[float] | None = None,
        flip_test: bool = False,
        data_preprocessor: nn.Module | Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if class_weight is not None and len(class_weight) != num_classes:
            raise ArgumentError(f"there are {num_classes} classes", key="class_weight", found=class_weight)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.flip_test = flip_test
        self.class_weight: Tensor | None
        weights = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)

    @abstractmethod
    def score(self, inputs: Tensor) -> Tensor:
        """Returns scores ``(N, num_classes, H, W)``, float32, for images ``(N, 3, H, W)``."""

    def outputs(self, inputs: Tensor) -> Tensor:
        """Returns scores ``(N, C, H, W)``."""
        return self.score(inputs)

    def loss(self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None) -> dict[str, Tensor]:
        """Returns `loss_ce` and `acc_seg`, the pixel accuracy in percent.

        Args:
            inputs: ``(N, 3, H, W)``, float.
            data_samples: Samples with `gt_sem_seg`.

        Raises:
            DataError: The ground truth is missing.
        """
        truth = stack_truth(data_samples, inputs.shape[-2:], self.ignore_index)
        scores = self.score(inputs)
        loss = F.cross_entropy(scores, truth, self.class_weight, ignore_index=self.ignore_index)
        accuracy = _pixel_accuracy(scores.detach(), truth, self.ignore_index)
        return {"loss_ce": loss, "acc_seg": accuracy}

    def predict(self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None) -> list[SegDataSample]:
        """Sets `seg_logits` and `pred_sem_seg` of the sample of each image; creates samples if none are given."""
        scores = self.score(inputs)
        if self.flip_test:
            scores = (scores + self.score(inputs.flip(-1)).flip(-1)) / 2
        samples = data_samples if data_samples is not None else [SegDataSample() for _ in scores]
        return [_fill(sample, each) for sample, each in zip(samples, scores, strict=True)]


def stack_truth(data_samples: Sequence[SegDataSample] | None, shape: Sequence[int], ignore_index: int) -> Tensor:
    """Returns the ground truth of all images, ``(N, H, W)``, int64, at the size of the inputs.

    In training, the preprocessor has already padded the label maps. In validation, they may have the original image
    size.

    Raises:
        DataError: A sample has no ground truth.
    """
    if not data_samples or any("gt_sem_seg" not in sample for sample in data_samples):
        raise DataError("the loss needs the truth of every picture: 'gt_sem_seg' in its data sample")
    return torch.cat([_truth_at(sample, (shape[0], shape[1]), ignore_index) for sample in data_samples]).long()


def _truth_at(sample: SegDataSample, shape: tuple[int, int], ignore_index: int) -> Tensor:
    labels: Tensor = sample.gt_sem_seg.data
    if tuple(labels.shape[-2:]) == shape:
        return labels
    size = tuple(sample.get("img_shape", shape))[:2]
    if tuple(labels.shape[-2:]) != size:
        labels = F.interpolate(labels[None].float(), size, mode="nearest")[0].to(labels.dtype)
    return F.pad(labels, (0, shape[1] - size[1], 0, shape[0] - size[0]), value=ignore_index)


def _pixel_accuracy(scores: Tensor, truth: Tensor, ignore_index: int) -> Tensor:
    """Returns the accuracy over pixels that are not ignored, in percent, ``()``."""
    counted = truth != ignore_index
    right = (scores.argmax(dim=1) == truth) & counted
    return 100 * right.sum() / counted.sum().clamp(min=1)


def _fill(sample: SegDataSample, scores: Tensor) -> SegDataSample:
    """Sets the scores and classes of a sample, after undoing padding, flipping and resizing."""
    height, width = sample.get("img_shape", scores.shape[-2:])[:2]
    scores = scores[:, :height, :width]
    if sample.get("flip", False):
        scores = scores.flip(_AXES[sample.get("flip_direction") or "horizontal"])
    original = tuple(sample.get("ori_shape", scores.shape[-2:]))[:2]
    if original != tuple(scores.shape[-2:]):
        scores = F.interpolate(scores[None], original, mode="bilinear", align_corners=False)[0]
    sample.seg_logits = PixelData(data=scores)
    sample.pred_sem_seg = PixelData(data=scores.argmax(dim=0, keepdim=True))
    return sample
