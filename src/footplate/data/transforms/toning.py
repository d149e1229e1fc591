"""Changes tones and details of images at random, without changing their geometry."""

import math
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from footplate.data.transforms.base import BaseTransform
from footplate.data.transforms.drawing import log_uniform
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomTone(BaseTransform):
    """Applies a random gamma and dimming to `img`: ``dim * value ** gamma``, with values from 0 to 1.

    Args:
        gamma: The maximum absolute value of the logarithm of the random exponent.
        dim: The maximum fraction of brightness that is removed.

    Raises:
        ArgumentError: `gamma` is negative, or `dim` lies outside of 0 to 1.
    """

    def __init__(self, *, gamma: float = 0.0, dim: float = 0.0) -> None:
        if gamma < 0:
            raise ArgumentError("gamma must not be negative", key="gamma", found=gamma)
        if not 0 <= dim <= 1:
            raise ArgumentError("dim is a share between 0 and 1", key="dim", found=dim)
        self.gamma, self.dim = gamma, dim

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes `img`, uint8."""
        power, dim = math.exp(self.gamma * np.random.uniform(-1, 1)), 1 - self.dim * np.random.random()
        # A lookup table of 256 values is faster than computing every pixel.
        levels = np.rint(255 * dim * (np.arange(256) / 255) ** power).astype(np.uint8)
        results["img"] = levels[results["img"]]
        return results


@TRANSFORMS.register_module()
class RandomBlur(BaseTransform):
    """Blurs `img` with a Gaussian.

    Args:
        prob: The probability, from 0 to 1.
        radius: The smallest and the largest standard deviation, in pixels.

    Raises:
        ArgumentError: `prob` lies outside of 0 to 1, or `radius` is no range.
    """

    def __init__(self, *, prob: float = 0.5, radius: tuple[float, float] = (0.1, 1.0)) -> None:
        self.prob = _check_share("prob", prob)
        if not 0 <= radius[0] <= radius[1]:
            raise ArgumentError("radius must be a range from 0", key="radius", found=radius)
        self.radius = (radius[0], radius[1])

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes `img`, uint8."""
        if np.random.random() < self.prob:
            blur = ImageFilter.GaussianBlur(np.random.uniform(*self.radius))
            results["img"] = np.asarray(Image.fromarray(results["img"]).filter(blur))
        return results


@TRANSFORMS.register_module()
class RandomErasing(BaseTransform):
    """Fills a random rectangle of `img`.

    Args:
        erase_prob: The probability, from 0 to 1.
        area_range: The smallest and the largest area of the rectangle, as a fraction of the image.
        aspect_range: The smallest and the largest aspect ratio (height / width) of the rectangle; its logarithm is
            uniformly distributed.
        fill: The value of the erased pixels.

    Raises:
        ArgumentError: `erase_prob` or an area lies outside of 0 to 1, or a range is empty.

    Source: Zhong et al., "Random Erasing Data Augmentation", arXiv:1708.04896.
    """

    def __init__(
        self,
        erase_prob: float = 0.5,
        area_range: tuple[float, float] = (0.02, 0.33),
        aspect_range: tuple[float, float] = (0.3, 10 / 3),
        *,
        fill: int = 0,
    ) -> None:
        self.erase_prob = _check_share("erase_prob", erase_prob)
        if not 0 < area_range[0] <= area_range[1] <= 1:
            raise ArgumentError("area_range must be a range within 0 to 1", key="area_range", found=area_range)
        if not 0 < aspect_range[0] <= aspect_range[1]:
            raise ArgumentError("aspect_range must be a range above 0", key="aspect_range", found=aspect_range)
        self.area_range, self.aspect_range = (area_range[0], area_range[1]), (aspect_range[0], aspect_range[1])
        self.fill = fill

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes `img`, ``(H, W)`` or ``(H, W, C)``; the sides of the rectangle are limited to those of the image."""
        if np.random.random() >= self.erase_prob:
            return results
        image = np.array(results["img"])
        height, width = image.shape[:2]
        area = height * width * np.random.uniform(*self.area_range)
        aspect = log_uniform(*self.aspect_range)
        tall = min(height, max(1, round(math.sqrt(area * aspect))))
        wide = min(width, max(1, round(math.sqrt(area / aspect))))
        top, left = np.random.randint(height - tall + 1), np.random.randint(width - wide + 1)
        image[top : top + tall, left : left + wide] = self.fill
        results["img"] = image
        return results


def _check_share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ArgumentError(f"{name} is a share between 0 and 1", key=name, found=value)
    return value
