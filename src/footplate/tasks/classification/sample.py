"""The data sample of classification."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import Self

from footplate.data.structures import BaseDataElement
from footplate.errors import ArgumentError, DataError

Labels = int | Sequence[int] | Tensor | npt.NDArray[Any]
Scores = Sequence[float] | Tensor | npt.NDArray[Any]


class ClsDataSample(BaseDataElement):
    """The ground truth and the prediction for one image; `img_path`, `img_shape` etc. are metainfo.

    Attributes:
        gt_label: The true classes, ``(K,)``, int64; usually one.
        gt_score: The soft labels, ``(C,)``, float, for example of mixed images.
        pred_label: The predicted classes, ``(K,)``, int64.
        pred_score: The probability of each class, ``(C,)``, float.

    Example:
        >>> sample = ClsDataSample().set_gt_label(3).set_pred_score([0.1, 0.9])
        >>> sample.gt_label, sample.pred_score
        (tensor([3]), tensor([0.1000, 0.9000]))
    """

    def set_gt_label(self, value: Labels) -> Self:
        """Sets one or several true classes.

        Raises:
            ArgumentError: It is neither an integer nor a list of integers.
        """
        self.gt_label = _as_labels(value)
        return self

    def set_gt_score(self, value: Scores) -> Self:
        """Sets the soft labels, ``(C,)``.

        Raises:
            ArgumentError: It is not a sequence of numbers.
        """
        self.gt_score = _as_scores(value)
        return self

    def set_pred_label(self, value: Labels) -> Self:
        """Sets one or several predicted classes.

        Raises:
            ArgumentError: It is neither an integer nor a list of integers.
        """
        self.pred_label = _as_labels(value)
        return self

    def set_pred_score(self, value: Scores) -> Self:
        """Sets the probability of each class, ``(C,)``.

        Raises:
            ArgumentError: It is not a sequence of numbers.
        """
        self.pred_score = _as_scores(value)
        return self


def labels_of(sample: ClsDataSample, num_classes: int | None) -> Tensor:
    """Returns the true classes of a sample, ``(K,)``, int64.

    Args:
        sample: A sample with `gt_label`.
        num_classes: The number of classes; None skips the range check.

    Raises:
        DataError: The ground truth is missing, or a class is out of range. Only labels on the CPU are checked, since
            reading them from an accelerator would cause a synchronization.
    """
    labels: Tensor | None = sample.get("gt_label")
    if labels is None:
        raise DataError("the truth of every picture is needed: 'gt_label' in its data sample")
    if num_classes is not None and labels.device.type == "cpu":
        for label in labels.tolist():
            if not 0 <= label < num_classes:
                where = sample.get("img_path", "a picture")
                raise DataError(f"the truth of '{where}' is class {label}, there are {num_classes}", found=label)
    return labels


def _as_labels(value: Any) -> Tensor:
    labels = _as_tensor(value, "a label is a whole number, or a list of them")
    if labels.dim() > 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ArgumentError("a label is a whole number, or a list of them", found=value)
    return labels.reshape(-1).long()


def _as_scores(value: Any) -> Tensor:
    scores = _as_tensor(value, "scores are a row of numbers, one a class")
    if scores.dim() != 1:
        raise ArgumentError("scores are a row of numbers, one a class", found=value)
    return scores if scores.is_floating_point() else scores.float()


def _as_tensor(value: Any, wanted: str) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(wanted, found=value) from error
