"""Resizes and flips images together with their boxes, masks and label maps."""

from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.data.transforms.base import BaseTransform
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.registry import TRANSFORMS

Direction = Literal["horizontal", "vertical"]


@TRANSFORMS.register_module()
class Resize(BaseTransform):
    """Resizes an image and its annotations, and adds `scale_factor`, the ratios of the new to the old width and height.

    Args:
        scale: Width and height of the result. With `keep_ratio`, the larger number is the maximum of the longer image
            side and the smaller number the maximum of the shorter side.
        scale_factor: The factor for both sides, or for width and height; replaces `scale`.
        keep_ratio: Whether to keep the aspect ratio.
        clip_object_border: Whether to clip boxes at the image border.

    Raises:
        ArgumentError: Not exactly one of `scale` and `scale_factor` is given, or it is not positive.

    Example:
        >>> Resize((1333, 800), keep_ratio=True)({"img": np.zeros((480, 640, 3), np.uint8)})["img"].shape
        (800, 1067, 3)
    """

    keepable: ClassVar[bool] = True

    def __init__(
        self,
        scale: int | tuple[int, int] | None = None,
        scale_factor: float | tuple[float, float] | None = None,
        keep_ratio: bool = False,
        clip_object_border: bool = True,
    ) -> None:
        if (scale is None) == (scale_factor is None):
            raise ArgumentError("a picture is resized to a scale or by a scale_factor", key="scale", found=scale)
        self.scale = None if scale is None else _pair("scale", scale)
        self.scale_factor = None if scale_factor is None else _pair("scale_factor", scale_factor)
        self.keep_ratio = keep_ratio
        self.clip_object_border = clip_object_border

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes `img` and, if present, `gt_bboxes`, `gt_masks` and `gt_seg_map`."""
        height, width = results["img"].shape[:2]
        size = self._new_size(width, height)
        results["img"] = _resized(results["img"], size, Image.Resampling.BILINEAR)
        if "gt_seg_map" in results:
            results["gt_seg_map"] = _resized(results["gt_seg_map"], size, Image.Resampling.NEAREST)
        factor = (size[0] / width, size[1] / height)
        if "gt_bboxes" in results:
            boxes = results["gt_bboxes"] * np.array(factor * 2, dtype=np.float32)
            results["gt_bboxes"] = (
                boxes.clip(0, np.array(size * 2, dtype=np.float32)) if self.clip_object_border else boxes
            )
        if "gt_masks" in results:
            results["gt_masks"] = _resized_masks(results["gt_masks"], size)
        before = results.get("scale_factor", (1.0, 1.0))
        results["scale_factor"] = (before[0] * factor[0], before[1] * factor[1])
        results["img_shape"] = results["img"].shape[:2]
        results["keep_ratio"] = self.keep_ratio
        return results

    def _new_size(self, width: int, height: int) -> tuple[int, int]:
        if self.scale_factor is not None:
            across, down = self.scale_factor
        elif self.scale is not None and self.keep_ratio:
            across = down = min(max(self.scale) / max(width, height), min(self.scale) / min(width, height))
        else:
            across, down = self.scale[0] / width, self.scale[1] / height  # type: ignore[index]  # one of the two is set
        return max(1, round(width * across)), max(1, round(height * down))


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Flips an image and its annotations at random, and adds `flip` and `flip_direction`.

    Args:
        prob: The probability, from 0 to 1.
        direction: "horizontal" to exchange left and right, "vertical" to exchange top and bottom.

    Raises:
        ArgumentError: `prob` is no probability, or there is no such direction.
    """

    def __init__(self, prob: float = 0.5, direction: Direction = "horizontal") -> None:
        if isinstance(prob, bool) or not isinstance(prob, (int, float)) or not 0 <= prob <= 1:
            raise ArgumentError("prob is a probability, from 0 to 1", key="prob", found=prob)
        if direction not in get_args(Direction):
            near = nearest(direction, get_args(Direction))
            raise ArgumentError(f"unknown direction '{direction}'", key="direction", suggestion=near)
        self.prob = prob
        self.direction = direction

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes `img` and, if present, `gt_bboxes`, `gt_masks` and `gt_seg_map`."""
        results["flip"] = bool(np.random.random() < self.prob)
        results["flip_direction"] = self.direction if results["flip"] else None
        return self._flipped(results) if results["flip"] else results

    def _flipped(self, results: dict[str, Any]) -> dict[str, Any]:
        across = self.direction == "horizontal"
        height, width = results["img"].shape[:2]
        for key, axis in (("img", 0), ("gt_seg_map", 0), ("gt_masks", 1)):
            if key in results:
                results[key] = np.ascontiguousarray(np.flip(results[key], axis + across))
        if "gt_bboxes" in results:
            x1, y1, x2, y2 = results["gt_bboxes"].T
            mirrored = [width - x2, y1, width - x1, y2] if across else [x1, height - y2, x2, height - y1]
            results["gt_bboxes"] = np.stack(mirrored, axis=1)
        return results


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or any(isinstance(each, bool) or not isinstance(each, (int, float)) for each in pair):
        raise ArgumentError(f"{name} is a number, or two of them: width and height", key=name, found=value)
    if min(pair) <= 0:
        raise ArgumentError(f"{name} must be positive", key=name, found=value)
    return pair[0], pair[1]


def _resized(pixels: NDArray[Any], size: tuple[int, int], resampling: Image.Resampling) -> NDArray[Any]:
    """Resizes ``(H, W)`` or ``(H, W, 3)``, uint8 or float32, to another width and height."""
    if pixels.ndim == 3 and pixels.dtype != np.uint8:  # Pillow supports color only with 8 bits
        return np.stack([_resized(plane, size, resampling) for plane in np.moveaxis(pixels, 2, 0)], axis=2)
    return np.array(Image.fromarray(pixels).resize(size, resampling))


def _resized_masks(masks: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    found = [_resized(mask.astype(np.uint8), size, Image.Resampling.NEAREST) for mask in masks]
    return np.array(found, dtype=bool).reshape(-1, size[1], size[0])
