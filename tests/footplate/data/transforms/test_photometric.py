import colorsys
from typing import Any

import numpy as np
import pytest

from footplate.data import seed_generators
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


def test_random_numbers_and_pixels_are_those_of_mmsegmentation() -> None:
    for seed in range(50):
        image = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        np.random.seed(seed)
        found = TRANSFORMS.build({"type": "PhotoMetricDistortion"})({"img": image})["img"]
        np.random.seed(seed)
        brightness = np.random.uniform(-32, 32) if np.random.randint(2) else 0
        expected = np.clip(image + brightness, 0, 255).astype(np.uint8)
        is_contrast_first = np.random.randint(2)
        contrast = np.random.uniform(0.5, 1.5) if is_contrast_first and np.random.randint(2) else 1
        if is_contrast_first:
            expected = np.clip(expected * contrast, 0, 255).astype(np.uint8)
        if not np.random.randint(2) and not np.random.randint(2):  # neither saturation nor hue
            if not is_contrast_first and np.random.randint(2):
                expected = np.clip(expected * np.random.uniform(0.5, 1.5), 0, 255).astype(np.uint8)
            assert np.abs(found.astype(int) - expected).max() <= 1, seed
