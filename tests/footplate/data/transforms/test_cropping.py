from typing import Any

import numpy as np
import pytest

from footplate.data.transforms.cropping import crop_sample
from footplate.registry import TRANSFORMS


def sample(height: int = 4, width: int = 6) -> dict[str, Any]:
    """Returns a sample whose pixel (2, 1), row 2 and column 1, is marked in image, mask and box."""
    img = np.zeros((height, width, 3), np.uint8)
    img[2, 1] = 200
    seg = np.zeros((height, width), np.uint8)
    seg[2, 1] = 7
    return {
        "img": img,
        "gt_seg_map": seg,
        "gt_masks": (seg == 7)[None],
        "gt_bboxes": np.array([[1, 2, 2, 3]], np.float32),
        "gt_bboxes_labels": np.array([3]),
        "img_shape": (height, width),
    }


def transform(kind: str, results: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = TRANSFORMS.build({"type": kind, **arguments})(results or sample())
    return found


def marked_pixel(results: dict[str, Any]) -> tuple[int, int]:
    """Returns row and column of the mark, and asserts that they agree in image, mask and box."""
    row, column = np.argwhere(results["gt_seg_map"] == 7)[0].tolist()
    assert results["gt_masks"][0, row, column]
    assert results["gt_bboxes"].tolist() == [[column, row, column + 1, row + 1]]
    assert results["img"][row, column].tolist() == [200] * 3
    assert results["img_shape"] == results["img"].shape[:2] == results["gt_seg_map"].shape
    return row, column


def test_random_crops_have_the_given_size() -> None:
    np.random.seed(0)
    results = next(
        each for each in (transform("RandomCrop", crop_size=(3, 4)) for _ in range(20)) if len(each["gt_bboxes"])
    )
    assert results["img"].shape == (3, 4, 3)
    marked_pixel(results)
    gone = transform("RandomCrop", {**sample(), "gt_bboxes": np.array([[9, 9, 9, 9]], np.float32)}, crop_size=2)
    assert [len(gone[key]) for key in ("gt_bboxes", "gt_bboxes_labels", "gt_masks")] == [0, 0, 0]
    assert transform("RandomCrop", crop_size=99)["img_shape"] == (4, 6)


def test_boxes_are_clipped_to_the_crop() -> None:
    boxes = np.array([[0, 0, 6, 4], [1, 2, 2, 3]], np.float32)
    results = {
        **sample(),
        "gt_bboxes": boxes,
        "gt_bboxes_labels": np.array([0, 1]),
        "gt_masks": np.ones((2, 4, 6), bool),
    }
    found = crop_sample(results, (slice(0, 2), slice(1, 4)))
    assert found["gt_bboxes"].tolist() == [[0, 0, 3, 2]]
    assert (found["gt_bboxes_labels"].tolist(), found["gt_masks"].shape) == ([0], (1, 2, 3))


def test_a_crop_of_one_class_is_drawn_again() -> None:
    np.random.seed(0)
    found = [transform("RandomCrop", crop_size=2, cat_max_ratio=0.9)["gt_seg_map"] for _ in range(50)]
    assert sum(7 in each for each in found) == 48
    np.random.seed(0)
    assert sum(7 in transform("RandomCrop", crop_size=2)["gt_seg_map"] for _ in range(50)) == 15


@pytest.mark.parametrize(
    ("arguments", "size"), [({"size": (8, 5)}, (5, 8)), ({"size_divisor": 5}, (5, 10)), ({"size": 3}, (4, 6))]
)
def test_padding_is_added_at_the_right_and_at_the_bottom(arguments: dict[str, Any], size: tuple[int, int]) -> None:
    results = transform("Pad", **arguments, pad_val={"img": 9, "seg": 99})
    assert results["pad_shape"] == results["img_shape"] == size
    assert marked_pixel(results) == (2, 1)
    if size != (4, 6):
        assert (results["img"][-1, -1].tolist(), results["gt_seg_map"][-1, -1]) == ([9] * 3, 99)
        assert not results["gt_masks"][:, -1].any()
        assert transform("Pad", **arguments)["gt_seg_map"][-1, -1] == 255
        colored = transform("Pad", **arguments, pad_val={"img": (1, 2, 3)})["img"]
        assert (colored[-1, -1].tolist(), colored[2, 1].tolist()) == ([1, 2, 3], [200] * 3)


@pytest.mark.parametrize(
    ("mode", "row"),
    [
        ("constant", [1, 2, 3, 9, 9]),
        ("edge", [1, 2, 3, 3, 3]),
        ("reflect", [1, 2, 3, 2, 1]),
        ("symmetric", [1, 2, 3, 3, 2]),
    ],
)
def test_padding_continues_the_image(mode: str, row: list[int]) -> None:
    image = np.array([[1, 2, 3]], np.uint8)
    results = {"img": image, "gt_seg_map": image, "gt_masks": np.ones((1, 1, 3), bool)}
    found = transform("Pad", results, size=(5, 1), pad_val={"img": 9, "seg": 9}, padding_mode=mode)
    assert found["img"].tolist() == found["gt_seg_map"].tolist() == [row]
    assert found["gt_masks"].tolist() == [[[True, True, True, False, False]]]
