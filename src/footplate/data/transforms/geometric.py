"""Transforms that resize and flip images together with their boxes, masks and label maps.

A sample has the image `img` of shape ``(H, W)`` or ``(H, W, 3)`` and, optionally, `gt_seg_map` of shape ``(H, W)``,
`gt_masks` of shape ``(N, H, W)`` and `gt_bboxes` of shape ``(N, 4)``, with the columns x1, y1, x2 and y2 in pixels.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.checks import check_choice, check_fraction
from footplate.data.transforms.pipeline import BaseTransform, Sample, check_pair, check_range, check_size, set_image
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS

Direction = Literal["horizontal", "vertical"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "area", "lanczos"]
Backend = Literal["cv2", "pillow"]
_MAX_CHANNELS = 128  # of OpenCV
_RESIZABLE = (np.uint8, np.uint16, np.int16, np.float32, np.float64)
_INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


@TRANSFORMS.register_module()
class Resize(BaseTransform):
    """Resizes an image and its annotations. Adds `scale_factor`, the ratios of new to original width and height.

    Args:
        scale: Width and height of the result, or one number for both. With `keep_ratio`, the larger number limits the
            longer image side, and the smaller number limits the shorter side.
        scale_factor: An alternative to `scale`: one factor for both sides, or a pair of factors for width and height.
        keep_ratio: Whether to keep the aspect ratio.
        clip_object_border: Whether to clip boxes at the image border.
        interpolation: The interpolation of the image. Label maps and masks use "nearest". None but "area" smooths an
            image that shrinks.
        backend: "cv2", or "pillow" for the interpolation of Pillow, which smooths an image that shrinks and is slower.

    Raises:
        ArgumentError: `scale` and `scale_factor` are both set or both missing, one of them is not positive, or the
            interpolation is unknown.

    Example:
        >>> Resize((1333, 800), keep_ratio=True)({"img": np.zeros((480, 640, 3), np.uint8)})["img"].shape
        (800, 1067, 3)
    """

    def __init__(
        self,
        scale: int | tuple[int, int] | None = None,
        scale_factor: float | tuple[float, float] | None = None,
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: Backend = "cv2",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        if (scale is None) == (scale_factor is None):
            raise ArgumentError("Resize requires either scale or scale_factor, but not both", key="scale", found=scale)
        self.scale = None if scale is None else check_pair("scale", scale)
        self.scale_factor = None if scale_factor is None else check_pair("scale_factor", scale_factor)
        self.keep_ratio = keep_ratio
        self.clip_object_border = clip_object_border
        self.backend, self.interpolation = check_interpolation(backend, interpolation)

    def transform(self, results: Sample) -> Sample:
        """Resizes `img` and, if present, `gt_bboxes`, `gt_masks` and `gt_seg_map`."""
        height, width = results["img"].shape[:2]
        size = self.scale
        if size is None:
            size = _scaled(width, height, *self.scale_factor)  # type: ignore[misc]  # one of the two is set
        if self.keep_ratio:
            factor = min(max(size) / max(width, height), min(size) / min(width, height))
            size = _scaled(width, height, factor, factor)
        set_image(results, resize_image(results["img"], size, self.interpolation, self.backend))
        if "gt_seg_map" in results:
            results["gt_seg_map"] = resize_image(results["gt_seg_map"], size, "nearest", self.backend)
        if "gt_masks" in results:
            masks = np.asarray(results["gt_masks"], bool).view(np.uint8)
            resized = np.empty((len(masks), size[1], size[0]), bool)
            for index, mask in enumerate(masks):
                resized[index] = resize_image(mask, size, "nearest")
            results["gt_masks"] = resized
        factors = (size[0] / width, size[1] / height)
        if "gt_bboxes" in results:
            boxes = results["gt_bboxes"] * np.array(factors * 2, dtype=np.float32)
            if self.clip_object_border:
                boxes = boxes.clip(0, np.array(size * 2, dtype=np.float32))
            results["gt_bboxes"] = boxes
        before = results.get("scale_factor", (1.0, 1.0))
        results["scale_factor"] = (before[0] * factors[0], before[1] * factors[1])
        results["keep_ratio"] = self.keep_ratio
        return results


def _scaled(width: int, height: int, across: float, down: float) -> tuple[int, int]:
    """Returns a width and height, multiplied by factors. Halves are rounded up, as in mmcv."""
    return max(1, int(width * across + 0.5)), max(1, int(height * down + 0.5))


@TRANSFORMS.register_module()
class RandomResize(BaseTransform):
    """Resizes the image to a random multiple of a size, or to a random size between two sizes.

    Args:
        scale: (Width, height), or a pair of the smallest and the largest size.
        ratio_range: The smallest and the largest factor; required if `scale` is a single size.
        keep_ratio: See `Resize`.
        clip_object_border: See `Resize`.
        backend: See `Resize`.
        interpolation: See `Resize`.

    Raises:
        ArgumentError: A value is invalid, or `ratio_range` is missing for a single size or set for a pair of sizes.
    """

    def __init__(
        self,
        scale: tuple[int, int] | Sequence[tuple[int, int]],
        ratio_range: tuple[float, float] | None = None,
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: Backend = "cv2",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        several = isinstance(scale[0], Sequence)
        if several == (ratio_range is not None):
            raise ArgumentError(
                "a single scale needs ratio_range, and a list of scales excludes it",
                key="ratio_range",
            )
        self.ratio_range = None if ratio_range is None else check_range("ratio_range", ratio_range)
        self.scales = [check_size("scale", size) for size in (scale if several else [scale])]  # type: ignore[arg-type]
        self.resize = Resize(1, None, keep_ratio, clip_object_border, backend, interpolation)

    def transform(self, results: Sample) -> Sample:
        """Samples a size, stores it as `scale`, and resizes the sample like `Resize`."""
        if self.ratio_range is not None:
            ratio = np.random.uniform(*self.ratio_range)
            width, height = (max(1, int(length * ratio)) for length in self.scales[0])
        else:
            width, height = (
                int(np.random.randint(min(pair), max(pair) + 1)) for pair in zip(*self.scales, strict=True)
            )
        self.resize.scale = results["scale"] = (width, height)
        return self.resize.transform(results)


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Randomly flips an image and its annotations, and records `flip` and `flip_direction` in the results.

    Args:
        prob: The probability, from 0 to 1.
        direction: "horizontal" to swap left and right, or "vertical" to swap top and bottom.

    Raises:
        ArgumentError: `prob` is not a probability, or `direction` is unknown.
    """

    def __init__(self, prob: float = 0.5, direction: Direction = "horizontal") -> None:
        self.prob = check_fraction("prob", prob)
        check_choice("direction", direction, get_args(Direction))
        self.direction = direction

    def transform(self, results: Sample) -> Sample:
        """Flips `img` and, if present, `gt_bboxes`, `gt_masks` and `gt_seg_map`, with probability `prob`."""
        results["flip"] = bool(np.random.random() < self.prob)
        results["flip_direction"] = self.direction if results["flip"] else None
        if not results["flip"]:
            return results
        is_horizontal = self.direction == "horizontal"
        height, width = results["img"].shape[:2]
        for key, rows in (("img", 0), ("gt_seg_map", 0), ("gt_masks", 1)):
            if key in results:
                flip = _mirror if is_horizontal else np.flip
                results[key] = np.ascontiguousarray(flip(results[key], rows + is_horizontal))
        if "gt_bboxes" in results:
            x1, y1, x2, y2 = results["gt_bboxes"].T
            flipped = [width - x2, y1, width - x1, y2] if is_horizontal else [x1, height - y2, x2, height - y1]
            results["gt_bboxes"] = np.stack(flipped, axis=1)
        return results


def _mirror(array: NDArray[Any], columns: int) -> NDArray[Any]:
    """Swaps left and right of an array of any dtype. `columns` is the axis of its columns."""
    if array.itemsize * math.prod(array.shape[columns + 1 :]) > _MAX_CHANNELS or not array.size:
        return np.flip(array, columns)
    before = math.prod(array.shape[:columns])
    pixels = np.ascontiguousarray(array).view(np.uint8).reshape(before, array.shape[columns], -1)
    mirrored: NDArray[Any] = cv2.flip(pixels, 1)
    return mirrored.view(array.dtype).reshape(array.shape)


def check_interpolation(backend: Backend, interpolation: Interpolation) -> tuple[Backend, Interpolation]:
    """Returns the arguments. Raises an ArgumentError if one of them is unknown."""
    check_choice("backend", backend, get_args(Backend))
    check_choice("interpolation", interpolation, get_args(Interpolation))
    return backend, interpolation


def resize_image(
    pixels: NDArray[Any],
    size: tuple[int, int],
    interpolation: Interpolation = "bilinear",
    backend: Backend = "cv2",
) -> NDArray[Any]:
    """Resizes an image of shape ``(H, W)`` or ``(H, W, C)`` to `size` (width, height). Keeps its dtype."""
    if backend == "pillow":
        name = "BOX" if interpolation == "area" else interpolation.upper()
        return np.array(Image.fromarray(pixels).resize(size, Image.Resampling[name]))
    if pixels.dtype not in _RESIZABLE:
        as_floats = resize_image(pixels.astype(np.float64), size, interpolation)
        is_integer = np.issubdtype(pixels.dtype, np.integer)
        return (np.rint(as_floats) if is_integer else as_floats).astype(pixels.dtype)
    if pixels.ndim == 3 and pixels.shape[2] > 4:  # OpenCV's limit depends on the interpolation
        parts = np.split(pixels, range(4, pixels.shape[2], 4), axis=2)
        return np.concatenate([resize_image(part, size, interpolation) for part in parts], axis=2)
    resized: NDArray[Any] = cv2.resize(pixels, size, interpolation=_INTERPOLATIONS[interpolation])
    return resized.reshape(*resized.shape[:2], *pixels.shape[2:])
