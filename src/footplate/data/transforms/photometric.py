"""Changes brightness and colors of images at random, with the name and arguments that segmentation configs use."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.data.transforms.base import BaseTransform
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS

_Pixels = npt.NDArray[np.uint8]
_HUES = 180  # the full hue circle in units of `hue_delta`
_LEVELS = 256  # the full hue circle in Pillow


@TRANSFORMS.register_module()
class PhotoMetricDistortion(BaseTransform):
    """Changes brightness, contrast, saturation and hue of `img`, each with probability 0.5.

    The contrast is changed either right after the brightness or last, at random. Saturation and hue are those of HSV;
    images with one channel have neither. The channel order may be RGB or BGR.

    Args:
        brightness_delta: The maximum change of values, in the range 0 to 255.
        contrast_range: The smallest and the largest factor for the values.
        saturation_range: The smallest and the largest factor for the saturation.
        hue_delta: The maximum rotation of the hue; 180 is a full circle.

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
        hue += np.uint8(round(turn * _LEVELS / _HUES) % _LEVELS)  # uint8 wraps around, like the hue
        planes = [Image.fromarray(each) for each in (hue, _scaled(saturation, factor), value)]
        return np.array(Image.merge("HSV", planes).convert("RGB"))


def _half() -> bool:
    return bool(np.random.random() < 0.5)


def _scaled(values: _Pixels, factor: float, more: float = 0.0) -> _Pixels:
    # A lookup table of 256 values is faster than scaling every pixel.
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
