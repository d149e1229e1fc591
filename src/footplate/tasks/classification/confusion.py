"""The confusion matrix."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from footplate.evaluation import BaseMetric, check_samples
from footplate.registry import METRICS
from footplate.tasks.classification.matrix_picture import draw_matrix
from footplate.tasks.classification.outcomes import (
    check_classes,
    class_count,
    class_names,
    predicted_label,
    true_label,
)

_MOST_RECORDED = 100  # classes; the matrix of more would fill the disk and no reader's screen


@METRICS.register_module()
class ConfusionMatrix(BaseMetric[tuple[int, int, int]]):
    """The confusion matrix, reported as `confusion_matrix/result`, ``(C, C)``, int64.

    Rows are true classes, columns are predicted classes. A matrix of at most 100 classes is also written to the
    per-class results of the run.

    Args:
        num_classes: The number of classes; by default that of the scores or of the dataset.
        collect_device: See `BaseMetric`.
        prefix: The prefix of the metric name.
        ignore_index: Samples with this class are ignored.

    Raises:
        DataError: A class is out of range, or a sample does not have exactly one true class.
    """

    default_prefix = "confusion_matrix"

    def __init__(
        self,
        num_classes: int | None = None,
        collect_device: Literal["cpu", "gpu"] = "cpu",
        prefix: str | None = None,
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Records the true and the predicted class of each sample."""
        check_samples(self, data_samples)
        count = class_count(data_samples, self.num_classes, self.dataset_meta)
        self.results += [(true_label(sample), predicted_label(sample), count) for sample in data_samples]

    def compute_metrics(self, results: list[tuple[int, int, int]]) -> dict[str, Tensor]:
        """Returns the matrix."""
        table = np.array([row for row in results if row[0] != self.ignore_index], dtype=np.int64).reshape(-1, 3)
        matrix = self.calculate(table[:, 1], table[:, 0], results[0][2])
        if len(matrix) <= _MOST_RECORDED:
            names = class_names(self.dataset_meta, len(matrix))
            self.record_per_class("confusion_matrix", names, dict(zip(names, matrix.T, strict=True)))
        return {"result": matrix}

    @staticmethod
    def calculate(
        pred: Tensor | npt.NDArray[np.int64], target: Tensor | npt.NDArray[np.int64], num_classes: int
    ) -> Tensor:
        """Returns the matrix, ``(num_classes, num_classes)``, int64.

        Args:
            pred: Predicted classes, ``(N,)``.
            target: True classes, ``(N,)``.
            num_classes: The number of classes.

        Raises:
            DataError: A class is out of range.
        """
        predicted, truth = torch.as_tensor(pred).long(), torch.as_tensor(target).long()
        check_classes("truth", truth, num_classes)
        check_classes("prediction", predicted, num_classes)
        cells = torch.bincount(truth * num_classes + predicted, minlength=num_classes**2)
        return cells.reshape(num_classes, num_classes)

    @staticmethod
    def plot(
        confusion_matrix: Tensor, include_values: bool = True, classes: Sequence[str] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Draws a matrix, ``(H, W, 3)``, uint8, RGB. Darker cells contain a greater share of their row.

        Args:
            confusion_matrix: ``(C, C)``.
            include_values: Whether to write the counts into the cells.
            classes: The names of the classes.
        """
        return draw_matrix(np.asarray(confusion_matrix), classes, include_values=include_values)
