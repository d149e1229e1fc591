from typing import Any

import numpy as np
import pytest
import torch

from footplate.data.structures import PixelData
from footplate.errors import ArgumentError
from footplate.registry import VISUALIZERS
from footplate.tasks.segmentation import SegDataSample, SegLocalVisualizer

GREY = np.full((64, 64, 3), 100, np.uint8)
PALETTE = [(10, 10, 10), (250, 0, 0), (0, 0, 250)]


def sample(**maps: int) -> SegDataSample:
    """Maps of class 0 whose left half has another class."""
    found = SegDataSample()
    for name, value in maps.items():
        classes = torch.zeros(64, 64, dtype=torch.int64)
        classes[:, :32] = value
        setattr(found, name, PixelData(data=classes))
    return found


def rendered(data_sample: SegDataSample | None, **arguments: Any) -> Any:
    visualizer = SegLocalVisualizer(classes=["ground", "shoe", "bag"], palette=PALETTE, alpha=1.0)
    return visualizer.render(GREY, data_sample, **arguments)


def pixels_of(picture: Any, color: tuple[int, int, int]) -> int:
    return int((picture == color).all(axis=2).sum())


def test_image_truth_and_prediction_stand_side_by_side() -> None:
    picture = rendered(sample(gt_sem_seg=1, pred_sem_seg=2))
    panel = 256 * 256
    assert picture.shape[1] == 3 * 256 + 4 * 10
    assert pixels_of(picture, (100, 100, 100)) >= panel
    # Half a panel each, and the square of the legend.
    for color in PALETTE[1:]:
        assert panel / 2 < pixels_of(picture, color) < panel / 2 + 400
    red, blue = ((picture == color).all(axis=2).nonzero()[1] for color in PALETTE[1:])
    assert (np.median(red), np.median(blue)) == (pytest.approx(276 + 64, abs=2), pytest.approx(542 + 64, abs=2))


@pytest.mark.parametrize(
    ("arguments", "panels"),
    [({"draw_gt": False}, 2), ({"draw_pred": False}, 2), ({"draw_gt": False, "draw_pred": False}, 1)],
)
def test_what_is_not_wanted_is_left_out(arguments: dict[str, bool], panels: int) -> None:
    picture = rendered(sample(gt_sem_seg=1, pred_sem_seg=2), **arguments)
    assert picture.shape[1] == panels * 256 + (panels + 1) * 10


@pytest.mark.parametrize(("data_sample", "panels"), [(None, 1), (sample(pred_sem_seg=1), 2)])
def test_what_is_unknown_is_left_out(data_sample: SegDataSample | None, panels: int) -> None:
    assert rendered(data_sample).shape[1] == panels * 256 + (panels + 1) * 10


@pytest.mark.parametrize("palette", [PALETTE, None])
def test_the_ignored_label_shows_the_picture(palette: Any) -> None:
    picture = SegLocalVisualizer(palette=palette, alpha=1.0).render(GREY, sample(gt_sem_seg=255))
    assert pixels_of(picture, (100, 100, 100)) == pytest.approx(1.5 * 256 * 256, rel=0.01)


def test_a_map_without_any_class_shows_the_picture() -> None:
    nothing = SegDataSample(gt_sem_seg=PixelData(data=torch.full((64, 64), 255)))
    assert pixels_of(rendered(nothing), (100, 100, 100)) == pytest.approx(2 * 256 * 256, rel=0.01)


def test_opacity_shows_the_picture_below() -> None:
    visualizer = SegLocalVisualizer(palette=PALETTE, alpha=0.5)
    picture = visualizer.render(GREY, sample(gt_sem_seg=1))
    assert pixels_of(picture, (175, 50, 50)) == 256 * 128


def test_names_and_colors_come_from_the_data_set() -> None:
    visualizer = VISUALIZERS.build({"type": "SegLocalVisualizer", "alpha": 1.0})
    visualizer.dataset_meta = {"classes": ["a", "b", "c"], "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}
    assert pixels_of(visualizer.render(GREY, sample(gt_sem_seg=2)), (7, 8, 9)) > 256 * 128


def test_without_a_palette_colors_are_found() -> None:
    picture = SegLocalVisualizer(alpha=1.0).render(GREY, sample(gt_sem_seg=6))
    assert len({tuple(color) for color in picture[:, 276:532].reshape(-1, 3)[::7]}) > 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"alpha": 1.5}, "between 0 and 1"), ({"classes": ["a"], "palette": PALETTE}, "1 classes and 3 colours")],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SegLocalVisualizer(**arguments)
