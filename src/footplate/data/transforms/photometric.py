"""Transforms that randomly change the brightness and colors of images."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from footplate.checks import check_count
from footplate.data.transforms.pipeline import BaseTransform, Sample, check_range
from footplate.errors import DataError
from footplate.registry import TRANSFORMS

_Pixels = NDArray[Any]
_HUES = 180  # the full hue circle in OpenCV
_SAME = np.arange(256)


@TRANSFORMS.register_module()
class PhotoMetricDistortion(BaseTransform):
    """Changes brightness, contrast, saturation and hue of `img`, each with probability 0.5.

    The contrast is changed either right after the brightness or at the very end, at random. Saturation and hue are
    changed in HSV space, and only for images with three channels, in RGB or BGR order. With the same random numbers,
    the pixels are those of MMSegmentation.

    Args:
        brightness_delta: The maximum change of pixel values, which range from 0 to 255.
        contrast_range: The smallest and the largest factor for the pixel values.
        saturation_range: The smallest and the largest factor for the saturation.
        hue_delta: The maximum rotation of the hue, a whole number; 180 is a full circle.

    Raises:
        ArgumentError: A range is empty or contains negative numbers.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", arXiv:1512.02325.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: int = 18,
    ) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = check_range("contrast_range", contrast_range)
        self.saturation_range = check_range("saturation_range", saturation_range)
        self.hue_delta = check_count("hue_delta", hue_delta, least=0)

    def transform(self, results: Sample) -> Sample:
        """Applies the transform to `img`, a uint8 image of shape ``(H, W)`` or ``(H, W, 3)``."""
        image: _Pixels = results["img"]
        if image.dtype != np.uint8:
            raise DataError(
                "PhotoMetricDistortion needs a uint8 image",
                found=image.dtype,
                notes=["Place it before Normalize, and remove to_float32=True from LoadImageFromFile."],
            )
        if _flip_coin():
            image = cv2.LUT(image, _levels(1.0, np.random.uniform(-self.brightness_delta, self.brightness_delta)))
        is_contrast_first = _flip_coin()
        if is_contrast_first:
            image = self._adjust_contrast(image)
        if image.ndim == 3 and image.shape[2] == 3:
            if _flip_coin():
                image = _change_hsv(image, saturations=_levels(np.random.uniform(*self.saturation_range)))
            if _flip_coin() and self.hue_delta:
                turn = np.random.randint(-self.hue_delta, self.hue_delta)
                image = _change_hsv(image, hues=(np.arange(256) + turn) % _HUES)
        results["img"] = image if is_contrast_first else self._adjust_contrast(image)
        return results

    def _adjust_contrast(self, image: _Pixels) -> _Pixels:
        return cv2.LUT(image, _levels(np.random.uniform(*self.contrast_range))) if _flip_coin() else image


def _flip_coin() -> bool:
    return bool(np.random.randint(2))


def _levels(factor: float, offset: float = 0.0) -> _Pixels:
    """Returns the results of multiplying 0 to 255 by a factor, adding an offset, and clipping to this range."""
    return np.clip(np.arange(256, dtype=np.float32) * factor + offset, 0, 255).astype(np.uint8)  # type: ignore[no-any-return]


def _change_hsv(image: _Pixels, hues: Any = _SAME, saturations: Any = _SAME) -> _Pixels:
    """Replaces each hue and each saturation by its entry in a table of 256 values."""
    tables = np.stack([hues, saturations, _SAME], axis=-1).astype(np.uint8)[None]
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, tables), cv2.COLOR_HSV2BGR)  # type: ignore[no-any-return]
