"""Transforms that randomly change the brightness and colors of images."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.data.transforms.pipeline import BaseTransform, Sample, check_range
from footplate.errors import DataError
from footplate.registry import TRANSFORMS

_Pixels = NDArray[np.uint8]
_HUES = 180  # the full hue circle in units of `hue_delta`
_LEVELS = 256  # the full hue circle in Pillow


@TRANSFORMS.register_module()
class PhotoMetricDistortion(BaseTransform):
    """Changes brightness, contrast, saturation and hue of `img`, each with probability 0.5.

    The contrast is changed either right after the brightness or at the very end, at random. Saturation and hue are
    changed in HSV space, and only for images with three channels, in RGB or BGR order.

    Args:
        brightness_delta: The maximum change of pixel values, which range from 0 to 255.
        contrast_range: The smallest and the largest factor for the pixel values.
        saturation_range: The smallest and the largest factor for the saturation.
        hue_delta: The maximum rotation of the hue; 180 is a full circle.

    Raises:
        ArgumentError: A range is empty or contains negative numbers.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", arXiv:1512.02325.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: float = 18,
    ) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = check_range("contrast_range", contrast_range)
        self.saturation_range = check_range("saturation_range", saturation_range)
        self.hue_delta = hue_delta

    def transform(self, results: Sample) -> Sample:
        """Applies the transform to `img`, a uint8 image of shape ``(H, W)`` or ``(H, W, 3)``."""
        image: _Pixels = results["img"]
        if image.dtype != np.uint8:
            raise DataError(
                "PhotoMetricDistortion needs a uint8 image",
                found=image.dtype,
                notes=["Place it before Normalize, and remove to_float32=True from LoadImageFromFile."],
            )
        is_contrast_first = _flip_coin()
        if _flip_coin():
            image = _adjust_levels(image, 1.0, np.random.uniform(-self.brightness_delta, self.brightness_delta))
        if is_contrast_first:
            image = self._adjust_contrast(image)
        if image.ndim == 3 and image.shape[2] == 3:
            factor = np.random.uniform(*self.saturation_range) if _flip_coin() else 1.0
            turn = np.random.uniform(-self.hue_delta, self.hue_delta) if _flip_coin() else 0.0
            if factor != 1.0 or turn:
                hue, saturation, value = (np.array(band) for band in Image.fromarray(image).convert("HSV").split())
                hue += np.uint8(round(turn * _LEVELS / _HUES) % _LEVELS)  # uint8 wraps around, like the hue
                planes = [Image.fromarray(band) for band in (hue, _adjust_levels(saturation, factor), value)]
                image = np.array(Image.merge("HSV", planes).convert("RGB"))
        results["img"] = image if is_contrast_first else self._adjust_contrast(image)
        return results

    def _adjust_contrast(self, image: _Pixels) -> _Pixels:
        return _adjust_levels(image, np.random.uniform(*self.contrast_range)) if _flip_coin() else image


def _flip_coin() -> bool:
    return bool(np.random.random() < 0.5)


def _adjust_levels(values: _Pixels, factor: float, offset: float = 0.0) -> _Pixels:
    """Multiplies values by a factor, adds an offset, and clips the result to the range from 0 to 255."""
    # A lookup table of 256 values is faster than scaling every pixel.
    levels = np.clip(np.rint(np.arange(256) * factor + offset), 0, 255).astype(np.uint8)
    return levels[values]  # type: ignore[no-any-return]
