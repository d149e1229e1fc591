"""Draws a confusion matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.errors import ArgumentError
from footplate.visualization import Drawing

_CELL = 44
_LEFT, _TOP = 130, 66
_EDGE = 30
_INK, _PAPER = (40, 40, 40), (255, 255, 255)
_RIGHT, _WRONG = (0, 114, 178), (213, 94, 0)  # from the colour-blind safe palette of Okabe and Ito


def draw_matrix(
    matrix: npt.NDArray[Any], classes: Sequence[str] | None = None, *, include_values: bool = True
) -> npt.NDArray[np.uint8]:
    """Returns an image of a confusion matrix, ``(H, W, 3)``, uint8, RGB.

    The colour of a cell is stronger the greater its share of the row: blue on the diagonal, orange elsewhere.

    Args:
        matrix: ``(C, C)``, with true classes as rows and predicted classes as columns.
        classes: The names of the classes; class indices by default.
        include_values: Whether to write the counts into the cells.

    Raises:
        ArgumentError: The matrix is not square, or the number of names differs from its size.
    """
    count = len(matrix)
    names = [str(name) for name in (classes if classes is not None else range(count))]
    if matrix.shape != (count, count) or len(names) != count:
        raise ArgumentError(f"a matrix (C, C) and C names, not {len(names)}", key="classes", found=matrix.shape)
    height, width = (margin + count * _CELL + _EDGE for margin in (_TOP, _LEFT))
    drawing = Drawing(np.full((height, width, 3), _PAPER, np.uint8))
    rows, columns = np.divmod(np.arange(count**2), count)
    corners = np.stack([columns, rows, columns + 1, rows + 1], axis=1) * _CELL + (_LEFT, _TOP, _LEFT, _TOP)
    shares = (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)).ravel()
    colors = [_tinted(_RIGHT if at % (count + 1) == 0 else _WRONG, share) for at, share in enumerate(shares)]
    drawing.draw_bboxes(corners, edge_colors=(225, 225, 225), face_colors=colors)
    if include_values:
        _write_values(drawing, matrix.ravel(), shares, corners)
    _write_names(drawing, names)
    return drawing.get_image()


def _tinted(color: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 + share * (each - 255)) for each in color)
    return red, green, blue


def _write_values(
    drawing: Drawing, values: npt.NDArray[Any], shares: npt.NDArray[np.float64], corners: npt.NDArray[Any]
) -> None:
    shown = np.flatnonzero(values)
    if shown.size:
        drawing.draw_texts(
            [str(values[at]) for at in shown],
            corners[shown, :2] + _CELL / 2,
            font_sizes=15,
            colors=[_PAPER if shares[at] > 0.55 else _INK for at in shown],
            vertical_alignments="center",
            horizontal_alignments="center",
        )


def _write_names(drawing: Drawing, names: Sequence[str]) -> None:
    """Writes true classes on the left and predicted classes at the top, alternating two rows to fit long names."""
    middles = (np.arange(len(names)) + 0.5) * _CELL
    left = np.stack([np.full(len(names), _LEFT - 8.0), _TOP + middles], axis=1)
    above = np.stack([_LEFT + middles, _TOP - 12.0 - 18 * (np.arange(len(names)) % 2)], axis=1)
    drawing.draw_texts(
        names, left, font_sizes=14, colors=_INK, vertical_alignments="center", horizontal_alignments="right"
    )
    drawing.draw_texts(
        names, above, font_sizes=14, colors=_INK, vertical_alignments="center", horizontal_alignments="center"
    )
    drawing.draw_texts(
        ["true \\ predicted"],
        [[12, 16]],
        font_sizes=14,
        colors=_INK,
        vertical_alignments="center",
    )
