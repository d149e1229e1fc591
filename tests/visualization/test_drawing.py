from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from footplate.errors import ArgumentError
from footplate.visualization import Drawing

RED, BLACK = [255, 0, 0], [0, 0, 0]


def black(size: int = 16) -> Drawing:
    return Drawing(np.zeros((size, size, 3), np.uint8))


def painted(drawing: Drawing) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = drawing.get_image().max(axis=2) > 0
    return found


def test_a_grey_picture_becomes_rgb() -> None:
    image = Drawing(np.full((2, 3), 7, np.uint8)).get_image()
    assert image.shape == (2, 3, 3)
    assert (image == 7).all()


def test_a_tensor_of_other_values_is_cut_to_bytes() -> None:
    image = Drawing(torch.tensor([[[-5.0, 300.0, 12.0]]])).get_image()
    assert image.tolist() == [[[0, 255, 12]]]


@pytest.mark.parametrize("shape", [(4, 4, 1), (3, 4, 4), (4,)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="a picture is"):
        Drawing(np.zeros(shape))


def test_drawing_needs_a_picture() -> None:
    with pytest.raises(ArgumentError, match="no picture"):
        Drawing().draw_points([[1, 1]])


def test_a_box_is_an_outline_of_its_corners() -> None:
    drawing = black().draw_bboxes(torch.tensor([2, 3, 6, 9]), edge_colors="red")
    expected = np.zeros((16, 16), bool)
    expected[3:10, 2:7] = True
    expected[4:9, 3:6] = False
    assert (painted(drawing) == expected).all()


def test_a_box_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ArgumentError, match="x1 <= x2"):
        black().draw_bboxes([[5, 0, 4, 9]])


def test_opacity_blends_a_face_with_the_picture() -> None:
    drawing = black().draw_bboxes([0, 0, 15, 15], edge_colors="none", face_colors="white", alpha=0.25)
    assert drawing.get_image()[8, 8].tolist() == [63, 63, 63]


def test_masks_have_each_their_color_and_opacity() -> None:
    masks = np.zeros((2, 16, 16), bool)
    masks[0, :8], masks[1, 8:] = True, True
    image = black().draw_binary_masks(masks, ["red", (0, 200, 0)], [1.0, 0.5]).get_image()
    assert image[0, 0].tolist() == RED
    assert image[15, 0].tolist() == [0, 100, 0]


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ArgumentError, match="not of the picture's size"):
        black().draw_binary_masks(np.zeros((4, 4), bool))


@pytest.mark.parametrize(
    ("draw", "inside", "outside"),
    [
        (lambda each: each.draw_points([[8, 8]], colors="red", sizes=2), (8, 8), (8, 12)),
        (lambda each: each.draw_circles([8, 8], 4, edge_colors="red"), (8, 12), (8, 8)),
        (lambda each: each.draw_lines([[2, 12]], [[5, 5]], colors="red"), (5, 7), (6, 7)),
        (lambda each: each.draw_polygons([[[2, 2], [12, 2], [12, 12]]], face_colors="red"), (5, 9), (9, 5)),
    ],
)
def test_shapes_are_painted_where_they_are(
    draw: Callable[[Drawing], Drawing], inside: tuple[int, int], outside: tuple[int, int]
) -> None:
    found = painted(draw(black()))
    assert found[inside]
    assert not found[outside]


def test_three_names_are_three_colors() -> None:
    image = black().draw_points([[2, 2], [7, 7], [12, 12]], colors=["red", "lime", "blue"], sizes=1).get_image()
    assert [image[at, at].tolist() for at in (2, 7, 12)] == [RED, [0, 255, 0], [0, 0, 255]]


def test_colors_repeat_where_there_are_fewer_than_things() -> None:
    drawing = black().draw_points([[2, 2], [7, 7], [12, 12]], colors=["red", "blue"], sizes=1)
    image = drawing.get_image()
    assert [image[at, at].tolist() for at in (2, 7, 12)] == [RED, [0, 0, 255], RED]


def test_key_points_that_are_sure_are_drawn_and_linked() -> None:
    cat = [[2, 2, 0.9], [12, 2, 0.8], [12, 12, 0.1]]
    dog = [[2, 14, 1.0], [np.nan, 8, 1.0], [8, 14, 1.0]]
    drawn = black().draw_keypoints([cat, dog], ["red", "blue"], 1, links=[(0, 1), (1, 2), (0, 2)]).get_image()
    assert [drawn[2, 2].tolist(), drawn[2, 12].tolist(), drawn[2, 7].tolist()] == [RED] * 3
    assert drawn[12, 12].tolist() == drawn[7, 12].tolist() == [0, 0, 0]
    assert [drawn[14, 2].tolist(), drawn[14, 5].tolist()] == [[0, 0, 255]] * 2
    one = black().draw_keypoints(np.array(cat)[:, :2], "red", 1).get_image()
    assert [one[12, 12].tolist(), one[2, 7].tolist()] == [RED, [0, 0, 0]]


@pytest.mark.parametrize(
    ("alignment", "columns"),
    [("left", slice(32, 64)), ("right", slice(0, 33)), ("center", slice(10, 54))],
)
def test_texts_stand_where_their_alignment_says(alignment: Any, columns: slice) -> None:
    drawing = black(64).draw_texts("abc", [32, 20], font_sizes=12, colors="w", horizontal_alignments=alignment)
    found = painted(drawing)
    assert found[:, columns].sum() == found.sum() > 20


def test_a_background_lies_behind_the_text() -> None:
    image = black(64).draw_texts("a", [10, 10], font_sizes=20, colors="w", background="red").get_image()
    assert (image == RED).all(axis=2).sum() > 30


def test_coordinates_of_another_width_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"coordinates are \(N, 2\)"):
        black().draw_points([[1, 2, 3]])


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_the_corners_of_one_polygon_come_as_a_list_or_an_array(kind: Any) -> None:
    corners = kind([[2, 2], [12, 2], [12, 9], [2, 9]])
    one = painted(black().draw_polygons(corners, face_colors="g"))
    assert (one == painted(black().draw_polygons([corners], face_colors="g"))).all()
    assert one.sum() == 11 * 8


def test_colors_may_be_an_array() -> None:
    palette = np.array([[255, 0, 0], [0, 255, 0]])
    image = black().draw_bboxes([[1, 1, 3, 3], [6, 6, 8, 8]], edge_colors=palette).get_image()
    assert (image[1, 1].tolist(), image[6, 6].tolist()) == (RED, [0, 255, 0])
    with pytest.raises(ArgumentError, match="there is no colour to draw with"):
        black().draw_bboxes([[1, 1, 3, 3]], edge_colors=palette[:0])
