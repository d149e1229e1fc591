import colorsys
from typing import Any

import numpy as np
import pytest

from footplate.data import seed_generators
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS

STILL: dict[str, Any] = {
    "brightness_delta": 0,
    "contrast_range": (1.0, 1.0),
    "saturation_range": (1.0, 1.0),
    "hue_delta": 0,
}
COLOUR = (200, 100, 50)


def pictures(number: int = 200, value: Any = COLOUR, **arguments: Any) -> np.ndarray[Any, Any]:
    """Returns the first pixel that each seed gives."""
    transform = TRANSFORMS.build({"type": "PhotoMetricDistortion", **arguments})
    found = []
    for seed in range(number):
        seed_generators(seed)
        image = np.full((2, 3, 3), value, np.uint8) if isinstance(value, tuple) else np.full((2, 3), value, np.uint8)
        result = transform({"img": image.copy()})["img"]
        assert (result.shape, result.dtype) == (image.shape, np.uint8)
        found.append(result[0, 0])
    return np.array(found, int)


def hsv(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in pixels])


def test_brightness_is_added_in_half_of_the_pictures() -> None:
    moved = pictures(value=100, **{**STILL, "brightness_delta": 20}) - 100
    assert 70 < (moved != 0).sum() < 130
    assert -20 <= moved.min() < -17
    assert 17 < moved.max() <= 20
    assert pictures(value=250, **{**STILL, "brightness_delta": 20}).max() == 255  # does not wrap around


def test_contrast_is_a_factor_once_at_most() -> None:
    found = pictures(value=100, **{**STILL, "contrast_range": (1.5, 1.5)})
    assert set(found.tolist()) == {100, 150}
    assert 70 < (found == 150).sum() < 130


def test_contrast_comes_before_or_behind_the_colours() -> None:
    settings = {**STILL, "contrast_range": (2.0, 2.0), "saturation_range": (0.5, 0.5)}
    blues = sorted(set(pictures(value=(200, 100, 50), **settings)[:, 2].tolist()))
    # Unchanged; brighter; less contrast; brighter (255, 200, 100), then less contrast; the reverse (200, 150, 125).
    assert blues == pytest.approx([50, 100, 125, 177, 250], abs=2)


def test_saturation_and_hue_leave_the_value() -> None:
    hue, saturation, value = hsv(np.array([COLOUR]))[0]
    pale = hsv(pictures(**{**STILL, "saturation_range": (0.5, 0.5)}))
    assert sorted(set(np.round(pale[:, 1] / saturation, 1))) == [0.5, 1.0]
    assert pale[:, 2] == pytest.approx(value, abs=0.01)
    assert pale[:, 0] == pytest.approx(hue, abs=0.01)
    turns = (hsv(pictures(**{**STILL, "hue_delta": 18}))[:, 0] - hue + 0.5) % 1 - 0.5
    assert 0.085 < turns.max() < 0.11  # 18 of 180
    assert -0.11 < turns.min() < -0.085


def test_nothing_to_do_leaves_the_picture_as_it_is() -> None:
    assert (pictures(20, **STILL) == COLOUR).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [("brightness_delta", -1), ("hue_delta", -1), ("contrast_range", (1.5, 0.5)), ("saturation_range", (-1, 1))],
)
def test_settings_without_sense_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        TRANSFORMS.build({"type": "PhotoMetricDistortion", key: value})
    assert caught.value.key == key
