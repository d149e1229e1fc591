"""Computes the confusion matrix, and draws it as an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footplate.registry import METRICS
from footplate.tasks.classification.metric import LabelMetric, class_names
from footplate.tasks.panels import BLUE, ORANGE
from footplate.tasks.task_base import check_classes
from footplate.visualization import canvas_to_image

_MAX_RECORDED = 100  # classes; a larger matrix would need a lot of disk space and not fit on a screen


@METRICS.register_module()
class ConfusionMatrix(LabelMetric):
    """The confusion matrix, reported as `confusion_matrix/result`: an int64 tensor of shape ``(C, C)``.

    Rows are true classes, columns are predicted classes. A matrix with up to 100 classes is also written to the run's
    per-class results.

    Args:
        num_classes: The number of classes; by default, taken from the scores or the dataset.
        ignore_index: Samples with this class are ignored.
        settings: Arguments for `BaseMetric`.

    Raises:
        DataError: A class is out of range, a sample does not have exactly one true class, or the number of classes is
            unknown.
    """

    default_prefix = "confusion_matrix"

    def compute_metrics(self, results: list[tuple[int, ...]]) -> dict[str, Tensor]:
        """Returns the matrix under the key `result`. Records per-class results if there are at most 100 classes."""
        truth, (predicted,) = self.labels(results)
        matrix = self.calculate(predicted, truth, results[0][0])
        if len(matrix) <= _MAX_RECORDED:
            names = class_names(self.dataset_meta, len(matrix))
            self.record_per_class("confusion_matrix", names, dict(zip(names, matrix.T, strict=True)))
        return {"result": matrix}

    @staticmethod
    def calculate(pred: Tensor | NDArray[np.int64], target: Tensor | NDArray[np.int64], num_classes: int) -> Tensor:
        """Returns the confusion matrix as an int64 tensor of shape ``(num_classes, num_classes)``.

        `pred` and `target` have shape ``(N,)``. Raises a DataError if a class is out of range.
        """
        predicted, truth = torch.as_tensor(pred).long(), torch.as_tensor(target).long()
        check_classes("ground truth", truth, num_classes)
        check_classes("prediction", predicted, num_classes)
        cells = torch.bincount(truth * num_classes + predicted, minlength=num_classes**2)
        return cells.reshape(num_classes, num_classes)

    @staticmethod
    def plot(
        confusion_matrix: Tensor | NDArray[Any], include_values: bool = True, classes: Sequence[str] | None = None
    ) -> NDArray[np.uint8]:
        """Draws a confusion matrix and returns it as a uint8 RGB image of shape ``(H, W, 3)``.

        Cells on the diagonal are blue, others are orange. The color intensity shows a cell's fraction of its row.

        Args:
            confusion_matrix: ``(C, C)``, with true classes as rows and predicted classes as columns.
            include_values: Whether to show the counts in the cells.
            classes: The names of the classes; class indices by default.
        """
        matrix = np.asarray(confusion_matrix)
        count = len(matrix)
        names = list(map(str, range(count) if classes is None else classes))
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # imported late: takes half a second
        from matplotlib.figure import Figure

        shares = (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1))[..., None]
        hues = np.where(np.eye(count, dtype=bool)[..., None], BLUE, ORANGE)
        side = 2 + 0.4 * min(count, _MAX_RECORDED)
        figure = Figure((side, side), layout="constrained")
        axes = figure.add_subplot(xlabel="predicted", ylabel="true")
        axes.imshow(np.rint(255 + shares * (hues - 255)).astype(np.uint8))
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
        for row, column in np.argwhere(matrix) if include_values else ():
            ink = "white" if shares[row, column, 0] > 0.55 else "black"
            axes.text(column, row, str(matrix[row, column]), color=ink, ha="center", va="center")
        return canvas_to_image(FigureCanvasAgg(figure))
