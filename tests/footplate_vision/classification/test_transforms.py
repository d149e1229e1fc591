from typing import Any

import numpy as np
import pytest

from footplate.data import seed_generators
from footplate.registry import TRANSFORMS


def transform_image(image: Any, kind: str, seed: int = 0, **arguments: Any) -> dict[str, Any]:
    seed_generators(seed)
    found: dict[str, Any] = TRANSFORMS.build({"type": kind, **arguments})({"img": image})
    return found


def square(height: int = 28, width: int = 28) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = np.zeros((height, width), np.uint8)
    image[6:12, 14:22] = 200
    return image


def warp(image: Any, seed: int = 0, **arguments: Any) -> Any:
    return transform(image, "RandomWarp", seed, **arguments)


def center(image: Any) -> tuple[float, float]:
    down, right = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((image * down).sum() / image.sum()), float((image * right).sum() / image.sum())


def ramp() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def transform(image: Any, kind: str, seed: int = 0, **arguments: Any) -> Any:
    return transform_image(image, kind, seed, **arguments)["img"]


def test_the_center_is_cropped() -> None:
    image = np.arange(35, dtype=np.uint8).reshape(5, 7)
    found = transform_image(image, "CenterCrop", crop_size=(3, 1))
    assert found["img"].tolist() == [[16, 17, 18]]
    assert found["img_shape"] == (1, 3)


def test_a_center_crop_does_not_pad_a_smaller_image() -> None:
    assert transform(np.array([[1, 2, 3], [4, 5, 6]], np.uint8), "CenterCrop", crop_size=(2, 4)).tolist() == [
        [1, 2],
        [4, 5],
    ]


def test_resized_crops_have_the_given_area_and_size() -> None:
    ramp = np.tile(np.arange(100, dtype=np.uint8), (100, 1))
    widths = []
    for seed in range(50):
        found = transform_image(
            ramp, "RandomResizedCrop", seed, scale=(10, 20), crop_ratio_range=(0.25, 0.25), aspect_ratio_range=(1, 1)
        )
        assert found["img"].shape == (10, 20)
        widths.append(int(found["img"][0, -1]) - int(found["img"][0, 0]))
    assert all(45 <= width <= 50 for width in widths)


@pytest.mark.parametrize(
    ("edge", "expected"),
    [("short", (10, 20)), ("long", (4, 10)), ("height", (10, 20)), ("width", (4, 10))],
)
def test_one_edge_gets_the_given_length(edge: str, expected: tuple[int, int]) -> None:
    found = transform_image(np.zeros((30, 61, 3), np.uint8), "ResizeEdge", scale=10, edge=edge)
    assert found["img"].shape == (*expected, 3)
    assert found["img_shape"] == expected


@pytest.mark.parametrize("shape", [(20, 28), (28, 28, 3)])
def test_a_warp_without_arguments_changes_nothing(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(warp(image), image)


def test_a_warp_flips_left_and_right() -> None:
    assert np.array_equal(warp(square(), flip=1.0), square()[:, ::-1])
    flipped = [not np.array_equal(warp(square(), seed, flip=0.5), square()) for seed in range(200)]
    assert 80 < sum(flipped) < 120


def test_scale_changes_the_area_within_its_range() -> None:
    areas = [warp(square(), seed, scale=(0.5, 2.0)).sum() / square().sum() for seed in range(100)]
    assert 0.2 < min(areas) < 0.4
    assert 2.2 < max(areas) < 4.4


def test_shift_is_within_its_range() -> None:
    places = np.array([center(warp(square(), seed, shift=0.1)) for seed in range(100)]) - center(square())
    assert 2.2 < np.abs(places).max() < 2.83  # OpenCV 4 rounds positions to 1/32
    assert (places.min(axis=0) < -2).all()
    assert (places.max(axis=0) > 2).all()


def test_turn_rotates_around_the_center() -> None:
    away = np.subtract(center(square()), 13.5)
    for seed in range(20):
        turned = np.subtract(center(warp(square(), seed, turn=90)), 13.5)
        assert np.hypot(*turned) == pytest.approx(np.hypot(*away), abs=0.35)
    widest = max(abs(center(warp(square(), seed, turn=90))[0] - center(square())[0]) for seed in range(20))
    assert widest > 4


def test_tone_is_monotonic_and_keeps_black() -> None:
    for seed in range(20):
        found = transform(ramp(), "RandomTone", seed, gamma=0.7, dim=0.5).ravel()
        assert found[0] == 0
        assert (np.diff(found.astype(int)) >= 0).all()
        assert 127 <= found[-1] <= 255


def test_gamma_brightens_or_darkens_and_keeps_white() -> None:
    middles = [int(transform(ramp(), "RandomTone", seed, gamma=0.7)[8, 0]) for seed in range(50)]
    assert min(middles) < 80
    assert max(middles) > 160
    assert transform(ramp(), "RandomTone", gamma=0.7)[15, 15] == 255


def test_blur_spreads_a_point_and_keeps_its_sum() -> None:
    image = np.zeros((15, 15), np.uint8)
    image[7, 7] = 250
    found = transform(image, "RandomBlur", prob=1.0, radius=(1.0, 1.0))
    assert 20 < found[7, 7] < 60
    assert found.sum() == pytest.approx(250, rel=0.1)
    blurred = [transform(image, "RandomBlur", seed, prob=0.3, radius=(1, 1))[7, 7] < 250 for seed in range(200)]
    assert 40 < sum(blurred) < 80
