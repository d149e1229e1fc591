"""The data sample for classification, and the transform and the preprocessor that fill it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import Self

from footplate.data import BaseTransform
from footplate.data.structures import BaseDataElement
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS, TRANSFORMS
from footplate.tasks.classification.batch_augment import RandomBatchAugment
from footplate.tasks.task_base import check_classes, image_to_tensor, loaded_image, select_keys

Labels = int | Sequence[int] | Tensor | npt.NDArray[Any]
Scores = Sequence[float] | Tensor | npt.NDArray[Any]
_META_KEYS = ("sample_idx", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")


class ClsDataSample(BaseDataElement):
    """The ground truth and the prediction for one image; `img_path`, `img_shape` etc. are metainfo.

    Attributes:
        gt_label: The true classes, ``(K,)``, int64; usually one.
        gt_score: The soft labels, ``(C,)``, float, such as those of mixed images.
        pred_label: The predicted classes, ``(K,)``, int64.
        pred_score: The probability of each class, ``(C,)``, float.

    Example:
        >>> sample = ClsDataSample().set_gt_label(3).set_pred_score([0.1, 0.9])
        >>> sample.gt_label, sample.pred_score
        (tensor([3]), tensor([0.1000, 0.9000]))
    """

    def set_gt_label(self, value: Labels) -> Self:
        """Sets one or several true classes. Raises an ArgumentError if `value` is not an integer or a list of them."""
        self.gt_label = _to_labels(value)
        return self

    def set_gt_score(self, value: Scores) -> Self:
        """Sets the soft labels, ``(C,)``. Raises an ArgumentError if `value` is not a sequence of numbers."""
        self.gt_score = _to_scores(value)
        return self

    def set_pred_label(self, value: Labels) -> Self:
        """Sets one or several predicted classes, like `set_gt_label`."""
        self.pred_label = _to_labels(value)
        return self

    def set_pred_score(self, value: Scores) -> Self:
        """Sets the probability of each class, ``(C,)``, like `set_gt_score`."""
        self.pred_score = _to_scores(value)
        return self


def _to_labels(value: Any) -> Tensor:
    labels = _to_tensor(value)
    is_integer = labels is not None and not (labels.is_floating_point() or labels.is_complex())
    if labels is None or labels.dim() > 1 or not is_integer or labels.dtype == torch.bool:
        raise ArgumentError("labels must be an integer or a list of integers", found=value)
    return labels.reshape(-1).long()


def _to_scores(value: Any) -> Tensor:
    scores = _to_tensor(value)
    if scores is None or scores.dim() != 1:
        raise ArgumentError("scores must be a list of numbers, one per class", found=value)
    return scores if scores.is_floating_point() else scores.float()


def _to_tensor(value: Any) -> Tensor | None:
    try:
        return value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def labels_of(sample: ClsDataSample, num_classes: int | None) -> Tensor:
    """Returns the true classes of a sample, ``(K,)``, int64. Checks their range if `num_classes` is given.

    Raises:
        DataError: The ground truth is missing, or a class is out of range. Only labels on the CPU are checked, since
            reading them from an accelerator would cause a synchronization.
    """
    labels: Tensor | None = sample.get("gt_label")
    if labels is None:
        raise DataError("every image needs its ground truth: 'gt_label' in its data sample")
    # Each image has few labels, for which Python numbers are much faster than tensor operations.
    if (
        num_classes is not None
        and labels.device.type == "cpu"
        and not all(0 <= each < num_classes for each in labels.tolist())
    ):
        check_classes(f"ground truth of '{sample.get('img_path', 'an image')}'", labels, num_classes)
    return labels


@TRANSFORMS.register_module(["PackInputs", "PackClsInputs"])
class PackInputs(BaseTransform):
    """Packs the results of a pipeline into the inputs of classification models.

    The results contain an image of shape ``(H, W, C)`` or ``(H, W)``. If the ground truth is known, they also contain
    one or several classes as `gt_label`, or soft labels of shape ``(C,)`` as `gt_score`.

    Args:
        input_key: The key of the image.
        algorithm_keys: The keys to store as data in addition to the ground truth, if present.
        meta_keys: The keys to store as metainfo, if present.

    Raises:
        DataError: There is no image.
    """

    fixed: ClassVar[bool] = True

    def __init__(
        self,
        input_key: str = "img",
        algorithm_keys: Sequence[str] = (),
        meta_keys: Sequence[str] = _META_KEYS,
    ) -> None:
        self.input_key = input_key
        self.algorithm_keys = tuple(algorithm_keys)
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `inputs` (a tensor ``(C, H, W)`` of the image's dtype) and `data_samples` (a ClsDataSample)."""
        image = loaded_image(results, self.input_key)
        sample = ClsDataSample(metainfo=select_keys(results, self.meta_keys))
        if "gt_label" in results:
            sample.set_gt_label(results["gt_label"])
        if "gt_score" in results:
            sample.set_gt_score(results["gt_score"])
        sample.set_data(select_keys(results, self.algorithm_keys))
        return {"inputs": image_to_tensor(image), "data_samples": sample}


@MODELS.register_module()
class ClsDataPreprocessor(ImgDataPreprocessor):
    """Normalizes images, pads them to the same size, and applies batch augmentations in training.

    Args:
        to_rgb: Whether to swap the first and the third channel.
        bgr_to_rgb: The same as `to_rgb`.
        to_onehot: Whether to set the `gt_score` of samples to one-hot labels.
        num_classes: The number of classes; required by `to_onehot` and `batch_augments`.
        batch_augments: Arguments for RandomBatchAugment, such as `dict(augments=[dict(type="Mixup", alpha=0.2)])`, or a
            list of augmentations.
        settings: Arguments for `ImgDataPreprocessor`, such as `mean` and `std`.

    Raises:
        ArgumentError: `num_classes` is required but not given.
        DataError: In `forward`, a sample to mix has no valid ground truth.
    """

    def __init__(
        self,
        *,
        to_rgb: bool = False,
        bgr_to_rgb: bool = False,
        to_onehot: bool = False,
        num_classes: int | None = None,
        batch_augments: Mapping[str, Any] | Sequence[Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(bgr_to_rgb=to_rgb or bgr_to_rgb, **settings)
        self.to_onehot = to_onehot
        self.num_classes = num_classes
        with at_key("batch_augments"):
            several = batch_augments if isinstance(batch_augments, Mapping) else {"augments": batch_augments}
            self.mixing = RandomBatchAugment(**several) if batch_augments else None
        if (to_onehot or self.mixing is not None) and num_classes is None:
            raise ArgumentError("to_onehot and batch_augments need num_classes", key="num_classes")

    def fit_samples(self, batch: dict[str, Any], training: bool) -> None:
        """Mixes images and labels in training. Otherwise, with `to_onehot`, sets the `gt_score` of labeled samples."""
        samples = batch["data_samples"]
        if training and self.mixing is not None:
            if samples is None:
                raise DataError("batch_augments needs the ground truth, but the batch has no 'data_samples'")
            batch["inputs"], scores = self.mixing(batch["inputs"], self._scores(samples, batch["inputs"]))
        elif self.to_onehot and samples is not None and all("gt_label" in sample for sample in samples):
            scores = self._scores(samples, batch["inputs"])
        else:
            return
        for sample, row in zip(samples, scores, strict=True):
            sample.set_gt_score(row)

    def _scores(self, samples: Sequence[ClsDataSample], inputs: Tensor) -> Tensor:
        """Returns the soft or multi-hot labels of samples, ``(N, num_classes)``."""
        scores = inputs.new_zeros(len(samples), self.num_classes or 0)
        with at_key("model.data_preprocessor.num_classes"):
            for row, sample in zip(scores, samples, strict=True):
                if "gt_score" in sample:
                    row += sample.gt_score
                else:
                    row[labels_of(sample, self.num_classes)] = 1
        return scores
