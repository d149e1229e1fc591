from typing import Any

import numpy as np
import pytest

from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS


def sample(height: int = 4, width: int = 8) -> dict[str, Any]:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = 200
    masks = np.zeros((1, height, width), bool)
    masks[0, : height // 2, : width // 2] = True
    return {
        "img": image,
        "gt_seg_map": masks[0].astype(np.uint8) * 3,
        "gt_masks": masks,
        "gt_bboxes": np.array([[0, 0, width / 2, height / 2]], np.float32),
    }


def changed(cfg: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = TRANSFORMS.build(cfg)(given)
    return found


@pytest.mark.parametrize(
    ("arguments", "shape", "factor"),
    [
        ({"scale": (16, 12)}, (12, 16), (2.0, 3.0)),
        ({"scale": 6}, (6, 6), (0.75, 1.5)),
        ({"scale": (16, 12), "keep_ratio": True}, (8, 16), (2.0, 2.0)),
        ({"scale": (12, 16), "keep_ratio": True}, (8, 16), (2.0, 2.0)),
        ({"scale": (100, 6), "keep_ratio": True}, (6, 12), (1.5, 1.5)),
        ({"scale_factor": 0.5}, (2, 4), (0.5, 0.5)),
        ({"scale_factor": [0.5, 2]}, (8, 4), (0.5, 2.0)),
    ],
)
def test_everything_is_resized_together(arguments: Any, shape: tuple[int, int], factor: tuple[float, float]) -> None:
    found = changed({"type": "Resize", **arguments}, sample())
    assert found["img"].shape == (*shape, 3)
    assert found["img_shape"] == shape
    assert found["gt_seg_map"].shape == shape
    assert found["gt_masks"].shape == (1, *shape)
    assert set(np.unique(found["gt_seg_map"])) == {0, 3}
    assert found["gt_bboxes"].tolist() == [[0, 0, 4 * factor[0], 2 * factor[1]]]
    assert found["scale_factor"] == factor
    assert found["gt_masks"].sum() == shape[0] * shape[1] / 4


def test_two_resizings_note_the_whole_factor() -> None:
    given = changed({"type": "Resize", "scale_factor": 2}, sample())
    assert changed({"type": "Resize", "scale": (4, 4)}, given)["scale_factor"] == (0.5, 1.0)


@pytest.mark.parametrize(("clip", "sides"), [(True, [0, 0, 16, 4]), (False, [-2, 0, 20, 4])])
def test_boxes_are_cut_at_the_border(clip: bool, sides: list[int]) -> None:
    given = sample()
    given["gt_bboxes"][0, [0, 2]] = -1, 10
    found = changed({"type": "Resize", "scale_factor": 2, "clip_object_border": clip}, given)
    assert found["gt_bboxes"][0].tolist() == sides


def test_pictures_of_any_kind_are_resized() -> None:
    grey = changed({"type": "Resize", "scale": (4, 4)}, {"img": np.full((8, 8), 7, np.uint8)})
    fine = changed({"type": "Resize", "scale": (4, 4)}, {"img": np.full((8, 8, 3), 0.5, np.float32)})
    assert (grey["img"].shape, int(grey["img"].max())) == ((4, 4), 7)
    assert (fine["img"].shape, fine["img"].dtype, float(fine["img"].max())) == ((4, 4, 3), np.float32, 0.5)


def test_without_instances_there_are_masks_without_rows() -> None:
    given = {**sample(), "gt_masks": np.zeros((0, 4, 8), bool), "gt_bboxes": np.zeros((0, 4), np.float32)}
    found = changed({"type": "Resize", "scale": (16, 12)}, given)
    assert (found["gt_masks"].shape, found["gt_bboxes"].shape) == ((0, 12, 16), (0, 4))


@pytest.mark.parametrize(
    ("direction", "box", "corner"),
    [("horizontal", [4, 0, 8, 2], np.s_[:2, 4:]), ("vertical", [0, 2, 4, 4], np.s_[2:, :4])],
)
def test_everything_is_mirrored_together(direction: str, box: list[int], corner: Any) -> None:
    found = changed({"type": "RandomFlip", "prob": 1.0, "direction": direction}, sample())
    assert found["gt_bboxes"].tolist() == [box]
    assert found["gt_masks"][0][corner].all()
    assert found["gt_masks"].sum() == 8
    assert (found["gt_seg_map"] == 3 * found["gt_masks"][0]).all()
    assert (found["img"][0, 0, 0] == 200) == (direction == "vertical")
    assert (found["flip"], found["flip_direction"]) == (True, direction)


def test_a_picture_is_mirrored_as_often_as_asked() -> None:
    np.random.seed(0)
    flips = [changed({"type": "RandomFlip", "prob": 0.25}, sample())["flip"] for _ in range(400)]
    assert 0.2 < np.mean(flips) < 0.3
    assert changed({"type": "RandomFlip", "prob": 0}, sample())["gt_bboxes"].tolist() == [[0, 0, 4, 2]]


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"type": "Resize"}, "a scale or by a scale_factor"),
        ({"type": "Resize", "scale": 8, "scale_factor": 2.0}, "a scale or by a scale_factor"),
        ({"type": "Resize", "scale": (8, 0)}, "must be positive"),
        ({"type": "Resize", "scale": (8, 8, 8)}, "two of them"),
        ({"type": "RandomFlip", "prob": 2}, "probability"),
        ({"type": "RandomFlip", "direction": "horizontl"}, "did you mean 'horizontal'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(cfg: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        TRANSFORMS.build(cfg)
