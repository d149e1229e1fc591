"""The confusion matrix: the metric and its image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from footplate.errors import ArgumentError
from footplate.registry import METRICS
from footplate.tasks.classification.metric import LabelMetric, class_names
from footplate.tasks.task_base import check_classes
from footplate.visualization import Drawing

_MAX_RECORDED = 100  # classes; a larger matrix would take much disk space and not fit on a screen
_CELL = 44
_LEFT, _TOP = 130, 66
_EDGE = 30
_INK, _PAPER = (40, 40, 40), (255, 255, 255)
_RIGHT, _WRONG = (0, 114, 178), (213, 94, 0)  # from the color-blind safe palette of Okabe and Ito


@METRICS.register_module()
class ConfusionMatrix(LabelMetric):
    """The confusion matrix, an int64 tensor ``(C, C)`` that is reported as `confusion_matrix/result`.

    Rows are true classes, columns are predicted classes. A matrix of at most 100 classes is also written to the
    per-class results of the run.

    Args:
        num_classes: The number of classes; by default, that of the scores or of the dataset.
        ignore_index: Samples with this class are ignored.
        settings: Arguments for `BaseMetric`.

    Raises:
        DataError: A class is out of range, or a sample does not have exactly one true class.
    """

    default_prefix = "confusion_matrix"

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        ignore_index: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, ignore_index=ignore_index, **settings)

    def compute_metrics(self, results: list[tuple[int, ...]]) -> dict[str, Tensor]:
        """Returns the confusion matrix as `result`. A small matrix is also recorded as per-class results."""
        truth, (predicted,) = self.labels(results)
        matrix = self.calculate(predicted, truth, results[0][0])
        if len(matrix) <= _MAX_RECORDED:
            names = class_names(self.dataset_meta, len(matrix))
            self.record_per_class("confusion_matrix", names, dict(zip(names, matrix.T, strict=True)))
        return {"result": matrix}

    @staticmethod
    def calculate(
        pred: Tensor | npt.NDArray[np.int64], target: Tensor | npt.NDArray[np.int64], num_classes: int
    ) -> Tensor:
        """Returns the confusion matrix as an int64 tensor ``(num_classes, num_classes)``.

        `pred` and `target` have shape ``(N,)``.
        """
        predicted, truth = torch.as_tensor(pred).long(), torch.as_tensor(target).long()
        check_classes("ground truth", truth, num_classes)
        check_classes("prediction", predicted, num_classes)
        cells = torch.bincount(truth * num_classes + predicted, minlength=num_classes**2)
        return cells.reshape(num_classes, num_classes)

    @staticmethod
    def plot(
        confusion_matrix: Tensor | npt.NDArray[Any], include_values: bool = True, classes: Sequence[str] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Draws a confusion matrix and returns an RGB image, a uint8 array ``(H, W, 3)``.

        Cells on the diagonal are blue, others are orange. The greater a cell's share of its row, the stronger its
        color.

        Args:
            confusion_matrix: ``(C, C)``, with true classes as rows and predicted classes as columns.
            include_values: Whether to write the counts into the cells.
            classes: The names of the classes; class indices by default.

        Raises:
            ArgumentError: The matrix is not square, or the number of names differs from its size.
        """
        matrix = np.asarray(confusion_matrix)
        count = len(matrix)
        names = [str(name) for name in (classes if classes is not None else range(count))]
        if matrix.shape != (count, count) or len(names) != count:
            raise ArgumentError(
                f"the matrix must be (C, C) with C class names, but there are {len(names)} names",
                key="classes",
                found=matrix.shape,
            )
        height, width = (margin + count * _CELL + _EDGE for margin in (_TOP, _LEFT))
        drawing = Drawing(np.full((height, width, 3), _PAPER, np.uint8))
        rows, columns = np.divmod(np.arange(count**2), count)
        corners = np.stack([columns, rows, columns + 1, rows + 1], axis=1) * _CELL + (_LEFT, _TOP, _LEFT, _TOP)
        shares = (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)).ravel()
        hues = np.where((rows == columns)[:, None], _RIGHT, _WRONG)
        colors = [tuple(color) for color in np.rint(255 + shares[:, None] * (hues - 255)).astype(int).tolist()]
        drawing.draw_bboxes(corners, edge_colors=(225, 225, 225), face_colors=colors)
        text: dict[str, Any] = {"vertical_alignments": "center", "horizontal_alignments": "center", "colors": _INK}
        shown = np.flatnonzero(matrix)
        if include_values and shown.size:
            inks = [_PAPER if shares[at] > 0.55 else _INK for at in shown]
            values = [str(value) for value in matrix.ravel()[shown]]
            drawing.draw_texts(values, corners[shown, :2] + _CELL / 2, font_sizes=15, **{**text, "colors": inks})
        # True classes on the left; predicted classes at the top, alternating two rows to fit long names.
        middles = (np.arange(count) + 0.5) * _CELL
        left = np.stack([np.full(count, _LEFT - 8.0), _TOP + middles], axis=1)
        above = np.stack([_LEFT + middles, _TOP - 12.0 - 18 * (np.arange(count) % 2)], axis=1)
        drawing.draw_texts(names, left, font_sizes=14, **{**text, "horizontal_alignments": "right"})
        drawing.draw_texts(names, above, font_sizes=14, **text)
        drawing.draw_texts("true \\ predicted", [12, 8], font_sizes=14, colors=_INK)
        return drawing.get_image()
