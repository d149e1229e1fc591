import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import footplate
from footplate.errors import ArgumentError
from footplate.visualization import Drawing, as_rgb

RED, BLACK = [255, 0, 0], [0, 0, 0]


def black(size: int = 16) -> Drawing:
    return Drawing(np.zeros((size, size, 3), np.uint8))


def painted(drawing: Drawing) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = drawing.get_image().max(axis=2) > 0
    return found


def test_what_an_untrained_model_predicts_can_be_drawn() -> None:
    drawing = black()
    drawing.draw_polygons([np.zeros((0, 2)), np.array([[3, 4]]), np.array([[3, 4], [9, 9]])])
    drawing.draw_polygons([]).draw_polygons([[3, 4]], alpha=0.5)
    drawing.draw_bboxes([[np.nan, 1, 5, 6], [2, 2, np.inf, 9]], ["red", "blue"], alpha=0.5)
    drawing.draw_circles([[np.nan, 3]], 2, face_colors="red")
    drawing.draw_lines([[1, np.nan]], [[1, 2]]).draw_texts("a", [[np.nan, 3]])
    drawing.draw_binary_masks(np.zeros((0, 16, 16), bool))
    drawing.draw_bboxes([], edge_colors=[]).draw_texts([], []).draw_points([])
    assert drawing.draw_binary_masks(np.zeros((2, 0, 0), bool)) is drawing
    assert not painted(drawing)[:3].any()


def test_opacity_blends_a_face_with_the_image() -> None:
    drawing = black().draw_bboxes([0, 0, 15, 15], edge_colors="none", face_colors="white", alpha=0.25)
    assert drawing.get_image()[8, 8].tolist() == [63, 63, 63]


def test_each_mask_has_its_color_and_opacity() -> None:
    masks = np.zeros((2, 16, 16), bool)
    masks[0, :8], masks[1, 8:] = True, True
    image = black().draw_binary_masks(masks, ["red", (0, 200, 0)], [1.0, 0.5]).get_image()
    assert image[0, 0].tolist() == RED
    assert image[15, 0].tolist() == [0, 100, 0]


@pytest.mark.parametrize(
    ("draw", "inside", "outside"),
    [
        (lambda each: each.draw_points([[8, 8]], colors="red", sizes=2), (8, 8), (8, 12)),
        (lambda each: each.draw_circles([8, 8], 4, edge_colors="red"), (8, 12), (8, 8)),
        (lambda each: each.draw_lines([[2, 12]], [[5, 5]], colors="red"), (5, 7), (6, 7)),
        (lambda each: each.draw_polygons([[[2, 2], [12, 2], [12, 12]]], face_colors="red"), (5, 9), (9, 5)),
    ],
)
def test_shapes_are_drawn_at_their_positions(
    draw: Callable[[Drawing], Drawing], inside: tuple[int, int], outside: tuple[int, int]
) -> None:
    found = painted(draw(black()))
    assert found[inside]
    assert not found[outside]


def test_letters_of_many_scripts_are_drawn() -> None:
    drawn = {letter: black(64).draw_texts(letter, [5, 5], font_sizes=40).get_image().tobytes() for letter in "aäłΩЖ"}
    assert len(set(drawn.values())) == 5
    assert black(64).draw_texts("\ue000", [5, 5], font_sizes=40).get_image().any()  # a box, as no font has this letter


@pytest.mark.parametrize(
    ("color", "expected"),
    [("red", (255, 0, 0)), ("g", (0, 128, 0)), ("#0a0b0c", (10, 11, 12)), ([1, 2, 3], (1, 2, 3))],
)
def test_colors_are_names_letters_codes_or_numbers(color: str | list[int], expected: tuple[int, int, int]) -> None:
    assert as_rgb(color) == expected
    with pytest.raises(ArgumentError, match="a color must be a name or three numbers from 0 to 255"):
        as_rgb("purpel" if isinstance(color, str) else [1, 2, 256])


def test_axes_draw_on_the_image() -> None:
    drawing = black(64).draw_bboxes([0, 0, 63, 63], "none", face_colors="blue")
    assert drawing.fig_save is drawing.ax_save.figure
    drawing.ax_save.fill([10, 20, 20, 10], [30, 30, 50, 50], color="red")
    drawing.draw_bboxes([0, 0, 12, 34], "none", face_colors="lime")  # drawn later, so above
    image = drawing.get_image()
    assert [image[at].tolist() for at in ((45, 15), (32, 11), (45, 40))] == [RED, [0, 255, 0], [0, 0, 255]]
    assert (image[30:51, 10:21] == RED).all(-1).sum() > 180
    assert np.array_equal(drawing.get_image(), image)


def test_plotting_library_is_loaded_late() -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(footplate.__file__).parent.rglob("*.py")]
    assert not [text for text in texts if re.search(r"^(import|from) matplotlib", text, re.MULTILINE)]
