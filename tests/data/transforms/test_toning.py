from typing import Any

import numpy as np
import pytest

from footplate.data import seed_generators
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS


def ramp() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def changed(image: Any, kind: str, seed: int = 0, **arguments: Any) -> Any:
    seed_generators(seed)
    return TRANSFORMS.build({"type": kind, **arguments})({"img": image})["img"]


def test_tones_keep_their_order_and_black_stays_black() -> None:
    for seed in range(20):
        found = changed(ramp(), "RandomTone", seed, gamma=0.7, dim=0.5).ravel()
        assert found[0] == 0
        assert (np.diff(found.astype(int)) >= 0).all()
        assert 127 <= found[-1] <= 255


def test_the_picture_loses_at_most_its_share_of_brightness() -> None:
    whites = [int(changed(ramp(), "RandomTone", seed, dim=0.5)[15, 15]) for seed in range(50)]
    assert 127 <= min(whites) < 140
    assert 240 < max(whites) <= 255


def test_gamma_bends_both_ways_and_leaves_white() -> None:
    middles = [int(changed(ramp(), "RandomTone", seed, gamma=0.7)[8, 0]) for seed in range(50)]
    assert min(middles) < 80
    assert max(middles) > 160
    assert changed(ramp(), "RandomTone", gamma=0.7)[15, 15] == 255


@pytest.mark.parametrize("kind", ["RandomTone", "RandomErasing"])
def test_colours_are_changed_alike(kind: str) -> None:
    image = np.repeat(ramp()[..., None], 3, axis=2)
    arguments: dict[str, Any] = {"gamma": 0.5} if kind == "RandomTone" else {"erase_prob": 1.0}
    found = changed(image, kind, **arguments)
    assert found.shape == (16, 16, 3)
    assert np.array_equal(found[..., 0], found[..., 2])
    assert not np.array_equal(found, image)


def test_blur_spreads_a_point_and_keeps_its_sum() -> None:
    image = np.zeros((15, 15), np.uint8)
    image[7, 7] = 250
    found = changed(image, "RandomBlur", prob=1.0, radius=(1.0, 1.0))
    assert 20 < found[7, 7] < 60
    assert found.sum() == pytest.approx(250, rel=0.1)
    blurred = [changed(image, "RandomBlur", seed, prob=0.3, radius=(1, 1))[7, 7] < 250 for seed in range(200)]
    assert 40 < sum(blurred) < 80


def test_erasing_fills_a_rectangle_of_the_right_area() -> None:
    image = np.full((40, 40), 9, np.uint8)
    for seed in range(50):
        found = changed(image, "RandomErasing", seed, erase_prob=1.0, area_range=(0.1, 0.2), fill=77)
        rows, columns = np.nonzero(found == 77)
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == tall * wide
        assert 0.08 < len(rows) / 1600 < 0.22
    assert (image == 9).all()
    assert 30 < sum((changed(image, "RandomErasing", seed, erase_prob=0.5) == 0).any() for seed in range(100)) < 70


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("RandomTone", {"gamma": -1}),
        ("RandomTone", {"dim": 1.1}),
        ("RandomBlur", {"prob": 2}),
        ("RandomBlur", {"radius": (2, 1)}),
        ("RandomErasing", {"erase_prob": -0.1}),
        ("RandomErasing", {"area_range": (0.5, 0.1)}),
        ("RandomErasing", {"aspect_range": (0, 1)}),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="between 0 and 1|must not be negative|must be a range"):
        changed(ramp(), kind, **arguments)
