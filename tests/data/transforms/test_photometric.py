import colorsys
from typing import Any

import numpy as np
import pytest

from footplate.data import seed_generators
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS

UNCHANGED: dict[str, Any] = {
    "brightness_delta": 0,
    "contrast_range": (1.0, 1.0),
    "saturation_range": (1.0, 1.0),
    "hue_delta": 0,
}


COLOR = (200, 100, 50)


def distort(number: int = 100, value: Any = COLOR, **arguments: Any) -> np.ndarray[Any, Any]:
    """Returns the first pixel that each seed gives."""
    distortion = TRANSFORMS.build({"type": "PhotoMetricDistortion", **arguments})
    found = []
    for seed in range(number):
        seed_generators(seed)
        image = np.full((2, 3, 3), value, np.uint8) if isinstance(value, tuple) else np.full((2, 3), value, np.uint8)
        result = distortion({"img": image.copy()})["img"]
        assert (result.shape, result.dtype) == (image.shape, np.uint8)
        found.append(result[0, 0])
    return np.array(found, int)


def hsv(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in pixels])


def ramp() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def transform(image: Any, kind: str, seed: int = 0, **arguments: Any) -> Any:
    seed_generators(seed)
    return TRANSFORMS.build({"type": kind, **arguments})({"img": image})["img"]


def test_brightness_is_changed_about_half_of_the_time() -> None:
    moved = distort(value=100, **{**UNCHANGED, "brightness_delta": 20}) - 100
    assert 35 < (moved != 0).sum() < 65
    assert -20 <= moved.min() < -17
    assert 17 < moved.max() <= 20
    assert distort(value=250, **{**UNCHANGED, "brightness_delta": 20}).max() == 255  # does not wrap around


def test_contrast_is_changed_before_or_after_the_colors() -> None:
    settings = {**UNCHANGED, "contrast_range": (2.0, 2.0), "saturation_range": (0.5, 0.5)}
    blues = sorted(set(distort(value=(200, 100, 50), **settings)[:, 2].tolist()))
    # Unchanged; brighter; less contrast; brighter (255, 200, 100), then less contrast; the reverse (200, 150, 125).
    assert blues == pytest.approx([50, 100, 125, 177, 250], abs=2)


def test_saturation_and_hue_do_not_change_the_value() -> None:
    hue, saturation, value = hsv(np.array([COLOR]))[0]
    pale = hsv(distort(**{**UNCHANGED, "saturation_range": (0.5, 0.5)}))
    assert sorted(set(np.round(pale[:, 1] / saturation, 1))) == [0.5, 1.0]
    assert pale[:, 2] == pytest.approx(value, abs=0.01)
    assert pale[:, 0] == pytest.approx(hue, abs=0.01)
    turns = (hsv(distort(**{**UNCHANGED, "hue_delta": 18}))[:, 0] - hue + 0.5) % 1 - 0.5
    assert 0.085 < turns.max() < 0.11  # 18 of 180
    assert -0.11 < turns.min() < -0.085


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        TRANSFORMS.build({"type": "PhotoMetricDistortion", "contrast_range": (1.5, 0.5)})
    assert caught.value.key == "contrast_range"


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


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("RandomTone", {"dim": 2}),
        ("RandomBlur", {"radius": (2, 1)}),
    ],
)
def test_invalid_arguments_are_refused(kind: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="must be a number from 0 to 1|must be a range"):
        transform(ramp(), kind, **arguments)
