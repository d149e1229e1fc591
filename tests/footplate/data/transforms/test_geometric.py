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


def transform(cfg: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = TRANSFORMS.build(cfg)(results)
    return found


@pytest.mark.parametrize(
    ("arguments", "shape", "factor"),
    [
        ({"scale": (16, 12)}, (12, 16), (2.0, 3.0)),
        ({"scale": (16, 12), "keep_ratio": True}, (8, 16), (2.0, 2.0)),
        ({"scale": (100, 6), "keep_ratio": True}, (6, 12), (1.5, 1.5)),
        ({"scale_factor": [0.5, 2]}, (8, 4), (0.5, 2.0)),
    ],
)
def test_annotations_are_resized_with_the_image(
    arguments: Any, shape: tuple[int, int], factor: tuple[float, float]
) -> None:
    found = transform({"type": "Resize", **arguments}, sample())
    assert found["img"].shape == (*shape, 3)
    assert found["img_shape"] == shape
    assert found["gt_seg_map"].shape == shape
    assert found["gt_masks"].shape == (1, *shape)
    assert set(np.unique(found["gt_seg_map"])) == {0, 3}
    assert found["gt_bboxes"].tolist() == [[0, 0, 4 * factor[0], 2 * factor[1]]]
    assert found["scale_factor"] == factor
    assert found["gt_masks"].sum() == shape[0] * shape[1] / 4


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"scale_factor": 0.5}, (3, 5)),
        ({"scale_factor": 0.3, "keep_ratio": True}, (2, 3)),
        ({"scale_factor": (2.0, 0.25), "keep_ratio": True}, (1, 2)),
        ({"scale": (4, 4), "keep_ratio": True}, (2, 4)),
    ],
)
def test_sizes_are_those_of_mmcv(arguments: Any, shape: tuple[int, int]) -> None:
    found = transform({"type": "Resize", **arguments}, {"img": np.zeros((5, 9, 3), np.uint8)})
    assert found["img_shape"] == shape


def resized(image: Any, height: int, width: int) -> Any:
    """Returns an image with the pixels of mmcv's bilinear interpolation, which does not smooth."""
    for axis, length in enumerate((height, width)):
        places = ((np.arange(length) + 0.5) * image.shape[axis] / length - 0.5).clip(0, image.shape[axis] - 1)
        before = places.astype(int)
        share = (places - before).reshape((-1,) + (1,) * (image.ndim - 1))
        after = (before + 1).clip(max=image.shape[axis] - 1)
        lower, upper = (np.moveaxis(image.take(at, axis), axis, 0) for at in (before, after))
        image = np.moveaxis(lower * (1 - share) + upper * share, 0, axis)
    return image


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("height", "width"), [(3, 5), (9, 4), (40, 33)])
def test_pixels_are_those_of_mmcv(height: int, width: int, dtype: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (19, 23, 3)).astype(dtype)
    labels = image[..., 0].astype(np.uint8)
    found = transform({"type": "Resize", "scale": (width, height)}, {"img": image, "gt_seg_map": labels})
    assert np.abs(found["img"] - resized(image, height, width)).max() <= 1
    rows, columns = np.arange(height) * 19 // height, np.arange(width) * 23 // width
    assert np.array_equal(found["gt_seg_map"], labels[rows][:, columns])


def test_an_image_may_be_smoothed() -> None:
    image = np.zeros((9, 9), np.uint8)
    image[4, 4] = 180
    centers = {"bilinear": 180, "area": 20}
    for name, center in centers.items():
        found = transform({"type": "RandomResize", "scale": [(3, 3), (3, 3)], "interpolation": name}, {"img": image})
        assert found["img"].tolist() == [[0, 0, 0], [0, center, 0], [0, 0, 0]]
    found = transform({"type": "Resize", "scale": 3, "backend": "pillow"}, {"img": image})
    assert 20 <= found["img"][1, 1] < 100


def test_scale_factors_are_multiplied() -> None:
    given = transform({"type": "Resize", "scale_factor": 2}, sample())
    assert transform({"type": "Resize", "scale": (4, 4)}, given)["scale_factor"] == (0.5, 1.0)


@pytest.mark.parametrize(("clip", "sides"), [(True, [0, 0, 16, 4]), (False, [-2, 0, 20, 4])])
def test_boxes_are_clipped_at_the_border(clip: bool, sides: list[int]) -> None:
    given = sample()
    given["gt_bboxes"][0, [0, 2]] = -1, 10
    found = transform({"type": "Resize", "scale_factor": 2, "clip_object_border": clip}, given)
    assert found["gt_bboxes"][0].tolist() == sides


def test_samples_without_instances_are_resized() -> None:
    given = {**sample(), "gt_masks": np.zeros((0, 4, 8), bool), "gt_bboxes": np.zeros((0, 4), np.float32)}
    found = transform({"type": "Resize", "scale": (16, 12)}, given)
    assert (found["gt_masks"].shape, found["gt_bboxes"].shape) == ((0, 12, 16), (0, 4))


@pytest.mark.parametrize(
    ("direction", "box", "corner"),
    [("horizontal", [4, 0, 8, 2], np.s_[:2, 4:]), ("vertical", [0, 2, 4, 4], np.s_[2:, :4])],
)
def test_annotations_are_flipped_with_the_image(direction: str, box: list[int], corner: Any) -> None:
    found = transform({"type": "RandomFlip", "prob": 1.0, "direction": direction}, sample())
    assert found["gt_bboxes"].tolist() == [box]
    assert found["gt_masks"][0][corner].all()
    assert found["gt_masks"].sum() == 8
    assert (found["gt_seg_map"] == 3 * found["gt_masks"][0]).all()
    assert (found["img"][0, 0, 0] == 200) == (direction == "vertical")
    assert (found["flip"], found["flip_direction"]) == (True, direction)


def test_images_are_flipped_with_the_given_probability() -> None:
    np.random.seed(0)
    flips = [transform({"type": "RandomFlip", "prob": 0.25}, sample())["flip"] for _ in range(400)]
    assert 0.2 < np.mean(flips) < 0.3
    assert transform({"type": "RandomFlip", "prob": 0}, sample())["gt_bboxes"].tolist() == [[0, 0, 4, 2]]


def test_random_sizes_are_within_their_range() -> None:
    np.random.seed(1)
    cfg = {"type": "RandomResize", "scale": (60, 40), "ratio_range": (0.5, 2.0), "keep_ratio": True}
    sizes = {transform(cfg, sample(4, 6))["img_shape"] for _ in range(50)}
    assert 20 <= min(height for height, _ in sizes) < 25
    assert 70 < max(height for height, _ in sizes) <= 80
    assert {transform({"type": "RandomResize", "scale": [(6, 4), (8, 6)]}, sample())["scale"] for _ in range(50)} == {
        (width, height) for width in (6, 7, 8) for height in (4, 5, 6)
    }


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"type": "Resize"}, "either scale or scale_factor"),
        ({"type": "RandomFlip", "direction": "horizontl"}, "did you mean 'horizontal'"),
    ],
)
def test_invalid_arguments_are_refused(cfg: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        TRANSFORMS.build(cfg)
