"""Random changes of a picture's light and colours, under the name and with the words that segmentation configs have."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.data.transforms.base import BaseTransform
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS

_Pixels = npt.NDArray[np.uint8]
_HUES = 180  # in which `hue_delta` counts a whole turn
_LEVELS = 256  # in which Pillow counts it


@TRANSFORMS.register_module()
class PhotoMetricDistortion(BaseTransform):
    """Changes brightness, contrast, saturation and hue of `img`, each in half of the pictures.

    Contrast comes right after brightness or at the very end, which one is drawn. Saturation and hue are those of
    HSV; a picture of one channel has none, and the order of the colours does not matter.

    Args:
        brightness_delta: At most so much is added to each value or taken from it, of 255.
        contrast_range: The smallest and the largest factor of the values.
        saturation_range: The smallest and the largest factor of the saturation.
        hue_delta: The hue is turned by at most this, of 180 for a whole turn.

    Raises:
        ArgumentError: A delta is negative, or a range is none of factors.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", arXiv:1512.02325.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: float = 18,
    ) -> None:
        self.brightness_delta = _check_delta("brightness_delta", brightness_delta)
        self.contrast_range = _check_range("contrast_range", contrast_range)
        self.saturation_range = _check_range("saturation_range", saturation_range)
        self.hue_delta = _check_delta("hue_delta", hue_delta)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes `img`, ``(H, W)`` or ``(H, W, 3)``, uint8."""
        image: _Pixels = results["img"]
        contrast_is_early = _half()
        if _half():
            image = _scaled(image, 1.0, np.random.uniform(-self.brightness_delta, self.brightness_delta))
        if contrast_is_early:
            image = self._with_contrast(image)
        if image.ndim == 3 and image.shape[2] == 3:
            image = self._with_colours(image)
        results["img"] = image if contrast_is_early else self._with_contrast(image)
        return results

    def _with_contrast(self, image: _Pixels) -> _Pixels:
        return _scaled(image, np.random.uniform(*self.contrast_range)) if _half() else image

    def _with_colours(self, image: _Pixels) -> _Pixels:
        factor = np.random.uniform(*self.saturation_range) if _half() else 1.0
        turn = np.random.uniform(-self.hue_delta, self.hue_delta) if _half() else 0.0
        if factor == 1.0 and not turn:
            return image
        hue, saturation, value = (np.array(each) for each in Image.fromarray(image).convert("HSV").split())
        hue += np.uint8(round(turn * _LEVELS / _HUES) % _LEVELS)  # wraps, as a hue does
        planes = [Image.fromarray(each) for each in (hue, _scaled(saturation, factor), value)]
        return np.array(Image.merge("HSV", planes).convert("RGB"))


def _half() -> bool:
    return bool(np.random.random() < 0.5)


def _scaled(values: _Pixels, factor: float, more: float = 0.0) -> _Pixels:
    # 256 values are scaled, however large the picture is.
    levels = np.clip(np.rint(np.arange(256) * factor + more), 0, 255).astype(np.uint8)
    scaled: _Pixels = levels[values]
    return scaled


def _check_delta(name: str, value: float) -> float:
    if value < 0:
        raise ArgumentError(f"{name} must not be negative", key=name, found=value)
    return value


def _check_range(name: str, value: tuple[float, float]) -> tuple[float, float]:
    if len(value) != 2 or not 0 <= value[0] <= value[1]:
        raise ArgumentError(f"{name} must be a range from 0", key=name, found=value)
    return value[0], value[1]
