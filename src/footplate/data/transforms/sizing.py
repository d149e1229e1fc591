"""Resizes and crops images for classification."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.checks import check_count
from footplate.data.transforms.base import BaseTransform
from footplate.data.transforms.drawing import log_uniform
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.registry import TRANSFORMS

Edge = Literal["short", "long", "width", "height"]
_ATTEMPTS = 10


@TRANSFORMS.register_module()
class ResizeEdge(BaseTransform):
    """Resizes `img` so that one edge has a given length, and keeps the aspect ratio.

    Args:
        scale: The length of the edge in pixels.
        edge: "short", "long", "width" or "height".

    Raises:
        ArgumentError: `scale` is not positive, or there is no such edge.
    """

    keepable: ClassVar[bool] = True

    def __init__(self, scale: int, edge: Edge = "short") -> None:
        if edge not in get_args(Edge):
            near = nearest(str(edge), get_args(Edge))
            raise ArgumentError(f"unknown edge '{edge}'", key="edge", suggestion=near)
        self.scale = check_count("scale", scale)
        self.edge = edge

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes `img`, ``(H, W)`` or ``(H, W, 3)``, uint8."""
        height, width = results["img"].shape[:2]
        lengths = {"width": width, "height": height, "short": min(width, height), "long": max(width, height)}
        factor = self.scale / lengths[self.edge]
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        return _replaced(results, _resized(results["img"], size))


@TRANSFORMS.register_module()
class CenterCrop(BaseTransform):
    """Crops the center of `img`; smaller images are padded with black on all sides.

    Args:
        crop_size: Width and height of the result, or one number for both.

    Raises:
        ArgumentError: A length is not positive.
    """

    keepable: ClassVar[bool] = True

    def __init__(self, crop_size: int | tuple[int, int]) -> None:
        self.crop_size = _check_size("crop_size", crop_size)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes `img`, ``(H, W)`` or ``(H, W, C)``."""
        image, (width, height) = results["img"], self.crop_size
        missing = [max(0, wanted - there) for wanted, there in zip((height, width), image.shape[:2], strict=True)]
        margins = [(each // 2, each - each // 2) for each in missing] + [(0, 0)] * (image.ndim - 2)
        image = np.pad(image, margins) if any(missing) else image
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return _replaced(results, np.ascontiguousarray(image[top : top + height, left : left + width]))


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Crops a random part of `img` and resizes it.

    Args:
        scale: Width and height of the result, or one number for both.
        crop_ratio_range: The smallest and the largest area of the crop, as a fraction of the image.
        aspect_ratio_range: The smallest and the largest aspect ratio (width / height) of the crop; its logarithm is
            uniformly distributed.

    Raises:
        ArgumentError: A length is not positive, or a range is empty.

    Source: Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842.
    """

    def __init__(
        self,
        scale: int | tuple[int, int],
        crop_ratio_range: tuple[float, float] = (0.08, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.scale = _check_size("scale", scale)
        if not 0 < crop_ratio_range[0] <= crop_ratio_range[1] <= 1:
            raise ArgumentError("a part's share lies between 0 and 1", key="crop_ratio_range", found=crop_ratio_range)
        if not 0 < aspect_ratio_range[0] <= aspect_ratio_range[1]:
            raise ArgumentError("aspect ratios are a range above 0", key="aspect_ratio_range", found=aspect_ratio_range)
        self.crop_ratio_range = (crop_ratio_range[0], crop_ratio_range[1])
        self.aspect_ratio_range = (aspect_ratio_range[0], aspect_ratio_range[1])

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes `img`, ``(H, W)`` or ``(H, W, 3)``, uint8."""
        left, top, width, height = self._draw_part(*results["img"].shape[:2])
        part = results["img"][top : top + height, left : left + width]
        return _replaced(results, _resized(np.ascontiguousarray(part), self.scale))

    def _draw_part(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns left, top, width and height of the crop; a central crop if 10 attempts do not fit."""
        for _ in range(_ATTEMPTS):
            area = height * width * np.random.uniform(*self.crop_ratio_range)
            aspect = log_uniform(*self.aspect_ratio_range)
            wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < wide <= width and 0 < tall <= height:
                return np.random.randint(width - wide + 1), np.random.randint(height - tall + 1), wide, tall
        aspect = min(max(width / height, self.aspect_ratio_range[0]), self.aspect_ratio_range[1])
        wide, tall = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
        return (width - wide) // 2, (height - tall) // 2, wide, tall


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _replaced(results: dict[str, Any], image: NDArray[Any]) -> dict[str, Any]:
    results["img"], results["img_shape"] = image, image.shape[:2]
    return results


def _check_size(name: str, size: int | tuple[int, int]) -> tuple[int, int]:
    width, height = size if isinstance(size, Sequence) else (size, size)
    return check_count(name, width), check_count(name, height)
