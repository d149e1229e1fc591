import numpy as np
import numpy.typing as npt
import pytest
import torch

from footplate.errors import ArgumentError
from footplate.tasks.classification import ConfusionMatrix
from footplate.tasks.classification.confusion_matrix import draw_matrix

MATRIX = np.array([[8, 2], [0, 0]])


def cell(picture: npt.NDArray[np.uint8], row: int, column: int) -> list[int]:
    """The colour near a cell's corner, where no number is."""
    pixel: list[int] = picture[66 + 44 * row + 4, 130 + 44 * column + 4].tolist()
    return pixel


def test_colours_tell_shares_of_rows() -> None:
    picture = draw_matrix(MATRIX, ["shoe", "bag"])
    assert cell(picture, 0, 0) == [51, 142, 193]  # 80% of the way from white to blue
    assert cell(picture, 0, 1) == [247, 223, 204]  # 20% of the way to orange
    assert cell(picture, 1, 1) == [255, 255, 255]


def test_values_are_written_where_there_are_some() -> None:
    written = draw_matrix(MATRIX, ["shoe", "bag"]) != draw_matrix(MATRIX, ["shoe", "bag"], include_values=False)
    rows, columns = (np.unique(axis // 44) for axis in np.nonzero(written[66:, 130:].any(axis=2)))
    assert (rows.tolist(), columns.tolist()) == ([0], [0, 1])


def test_names_or_numbers_stand_at_the_sides() -> None:
    named, numbered = draw_matrix(MATRIX, ["shoe", "bag"]), ConfusionMatrix.plot(torch.from_numpy(MATRIX))
    assert named.shape == numbered.shape
    assert (named[66:, :130] != numbered[66:, :130]).any()
    assert (named[:66, 130:] != numbered[:66, 130:]).any()


@pytest.mark.parametrize(("shape", "classes"), [((2, 3), None), ((2, 2), ["one"])])
def test_what_does_not_fit_is_refused(shape: tuple[int, int], classes: list[str] | None) -> None:
    with pytest.raises(ArgumentError, match="C names"):
        draw_matrix(np.zeros(shape, np.int64), classes)
