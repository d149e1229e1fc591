from typing import Any

import numpy as np
import pytest

from footplate.data import seed_generators
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS


def picture(height: int = 28, width: int = 28) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = np.zeros((height, width), np.uint8)
    image[6:12, 14:22] = 200
    return image


def warped(image: Any, seed: int = 0, **arguments: Any) -> Any:
    seed_generators(seed)
    return TRANSFORMS.build({"type": "RandomWarp", **arguments})({"img": image})["img"]


def centre(image: Any) -> tuple[float, float]:
    down, right = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((image * down).sum() / image.sum()), float((image * right).sum() / image.sum())


@pytest.mark.parametrize("shape", [(28, 28), (20, 28), (28, 28, 3)])
def test_without_arguments_nothing_changes(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(warped(image), image)


def test_flip_exchanges_left_and_right() -> None:
    assert np.array_equal(warped(picture(), flip=1.0), picture()[:, ::-1])
    flipped = [not np.array_equal(warped(picture(), seed, flip=0.5), picture()) for seed in range(200)]
    assert 80 < sum(flipped) < 120


def test_scale_changes_the_area_within_its_range() -> None:
    areas = [warped(picture(), seed, scale=(0.5, 2.0)).sum() / picture().sum() for seed in range(100)]
    assert 0.2 < min(areas) < 0.4
    assert 2.2 < max(areas) < 4.4


def test_shift_moves_within_its_share() -> None:
    places = np.array([centre(warped(picture(), seed, shift=0.1)) for seed in range(100)]) - centre(picture())
    assert 2.2 < np.abs(places).max() <= 2.81
    assert (places.min(axis=0) < -2).all()
    assert (places.max(axis=0) > 2).all()


def test_turn_goes_round_the_centre() -> None:
    away = np.subtract(centre(picture()), 13.5)
    for seed in range(20):
        turned = np.subtract(centre(warped(picture(), seed, turn=90)), 13.5)
        assert np.hypot(*turned) == pytest.approx(np.hypot(*away), abs=0.35)
    widest = max(abs(centre(warped(picture(), seed, turn=90))[0] - centre(picture())[0]) for seed in range(20))
    assert widest > 4


@pytest.mark.parametrize("argument", [{"stretch": 0.3}, {"shear": 0.3}])
def test_stretch_and_shear_change_the_form(argument: dict[str, Any]) -> None:
    assert not np.array_equal(warped(picture(), **argument), picture())
    assert warped(picture(), **argument).sum() == pytest.approx(picture().sum(), rel=0.05)


def test_equal_seeds_give_equal_pictures() -> None:
    arguments: dict[str, Any] = {"turn": 20, "scale": (0.7, 1.4), "shift": 0.2, "flip": 0.5}
    assert np.array_equal(warped(picture(), 3, **arguments), warped(picture(), 3, **arguments))
    assert not np.array_equal(warped(picture(), 3, **arguments), warped(picture(), 4, **arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": (1.2, 1.0)}, "range above 0"),
        ({"scale": (0, 1)}, "range above 0"),
        ({"turn": -1}, "turn must not be negative"),
        ({"shift": -0.1}, "shift must not be negative"),
        ({"flip": 1.5}, "between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        warped(picture(), **arguments)
