"""Resizes, crops and pads images together with their masks and boxes.

The transforms change `img` ``(H, W)`` or ``(H, W, 3)`` and, if present, `gt_seg_map` ``(H, W)``, `gt_masks`
``(N, H, W)`` and `gt_bboxes` ``(N, 4)``, x1 y1 x2 y2 in pixels. By convention, a `scale` is (width, height), whereas
`crop_size` and `size` are (height, width).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from footplate.checks import check_count
from footplate.data.transforms.base import BaseTransform
from footplate.data.transforms.spatial import Resize
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS

_CROP_ATTEMPTS = 10


@TRANSFORMS.register_module()
class RandomResize(BaseTransform):
    """Resizes the image to a random multiple of a size, or to a random size between two sizes.

    Args:
        scale: Width and height, or a pair of the smallest and the largest size.
        ratio_range: The smallest and the largest factor, for a single scale.
        keep_ratio: See `Resize`.

    Raises:
        ArgumentError: One scale has no range, or the range is empty.
    """

    def __init__(
        self,
        scale: tuple[int, int] | Sequence[tuple[int, int]],
        ratio_range: tuple[float, float] | None = None,
        keep_ratio: bool = False,
    ) -> None:
        several = isinstance(scale[0], Sequence)
        if several == (ratio_range is not None):
            raise ArgumentError("one scale needs a ratio_range, two scales need none", key="ratio_range")
        if ratio_range is not None and not 0 < ratio_range[0] <= ratio_range[1]:
            raise ArgumentError("multiples are a range above 0", key="ratio_range", found=ratio_range)
        self.scales = [_pair("scale", each) for each in (scale if several else [scale])]  # type: ignore[arg-type]
        self.ratio_range = ratio_range
        self.keep_ratio = keep_ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resizes the sample as `Resize` does, and adds `scale`."""
        if self.ratio_range is not None:
            ratio = np.random.uniform(*self.ratio_range)
            width, height = (max(1, int(length * ratio)) for length in self.scales[0])
        else:
            width, height = (
                int(np.random.randint(min(pair), max(pair) + 1)) for pair in zip(*self.scales, strict=True)
            )
        results["scale"] = (width, height)
        return Resize((width, height), keep_ratio=self.keep_ratio).transform(results)


@TRANSFORMS.register_module()
class RandomCrop(BaseTransform):
    """Crops the image at a random position and removes boxes outside of the crop; smaller images are not padded.

    Args:
        crop_size: Height and width, or one number for both.
        cat_max_ratio: The maximum fraction of the label map that one class may cover; otherwise another crop is
            drawn, at most 10 times.
        ignore_index: The label of ignored pixels.

    Raises:
        ArgumentError: A length is not positive, or the share lies outside of 0 to 1.
    """

    def __init__(self, crop_size: int | tuple[int, int], cat_max_ratio: float = 1.0, ignore_index: int = 255) -> None:
        if not 0 < cat_max_ratio <= 1:
            raise ArgumentError("a share lies above 0 and up to 1", key="cat_max_ratio", found=cat_max_ratio)
        self.crop_size = _pair("crop_size", crop_size)
        self.cat_max_ratio, self.ignore_index = cat_max_ratio, ignore_index

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crops the sample."""
        part = self._draw_part(results["img"].shape)
        if self.cat_max_ratio < 1:
            for _ in range(_CROP_ATTEMPTS):
                if self._is_mixed(results["gt_seg_map"][part]):
                    break
                part = self._draw_part(results["img"].shape)
        return cropped(results, part)

    def _draw_part(self, shape: Sequence[int]) -> tuple[slice, slice]:
        starts = [
            int(np.random.randint(max(has - wants, 0) + 1)) for has, wants in zip(shape, self.crop_size, strict=False)
        ]
        top, left = starts
        return slice(top, top + self.crop_size[0]), slice(left, left + self.crop_size[1])

    def _is_mixed(self, labels: NDArray[Any]) -> bool:
        counts = np.unique(labels[labels != self.ignore_index], return_counts=True)[1]
        return len(counts) > 1 and bool(counts.max() / counts.sum() < self.cat_max_ratio)


@TRANSFORMS.register_module()
class Pad(BaseTransform):
    """Pads the image at the right and at the bottom.

    Args:
        size: The minimum height and width of the result.
        size_divisor: Pads height and width to multiples of this number instead.
        pad_val: The padding value of images, or `dict(img=..., seg=...)`. Label maps are padded with 255 by default.

    Raises:
        ArgumentError: Not exactly one of `size` and `size_divisor` is given, or one is not positive.
    """

    keepable: ClassVar[bool] = True

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        size_divisor: int | None = None,
        pad_val: float | Mapping[str, float] = 0,
    ) -> None:
        if (size is None) == (size_divisor is None):
            raise ArgumentError("a picture is padded to a size or to a multiple", key="size", found=size)
        self.size = None if size is None else _pair("size", size)
        self.divisor = 1 if size_divisor is None else check_count("size_divisor", size_divisor)
        values = pad_val if isinstance(pad_val, Mapping) else {"img": pad_val}
        self.values = {"img": values.get("img", 0), "gt_seg_map": values.get("seg", 255), "gt_masks": 0}

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pads the sample and adds `pad_shape`."""
        shape = results["img"].shape[:2]
        least = self.size or tuple(-(-length // self.divisor) * self.divisor for length in shape)
        bottom, right = (max(0, wanted - there) for wanted, there in zip(least, shape, strict=True))
        for key, value in self.values.items():
            if key in results:
                before = [(0, 0)] if key == "gt_masks" else []
                margins = [*before, (0, bottom), (0, right)]
                margins += [(0, 0)] * (results[key].ndim - len(margins))
                results[key] = np.pad(results[key], margins, constant_values=value)
        results["pad_shape"] = results["img_shape"] = results["img"].shape[:2]
        return results


def cropped(results: dict[str, Any], part: tuple[slice, slice]) -> dict[str, Any]:
    """Crops a sample to the slices of rows and columns in `part`, and removes boxes outside of it."""
    results["img"] = np.ascontiguousarray(results["img"][part])
    if "gt_seg_map" in results:
        results["gt_seg_map"] = np.ascontiguousarray(results["gt_seg_map"][part])
    if "gt_masks" in results:
        results["gt_masks"] = np.ascontiguousarray(results["gt_masks"][:, part[0], part[1]])
    if "gt_bboxes" in results:
        height, width = results["img"].shape[:2]
        boxes = results["gt_bboxes"] - np.array([part[1].start, part[0].start] * 2, dtype=np.float32)
        boxes = np.clip(boxes, 0, np.array([width, height] * 2, dtype=np.float32))
        left = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        results["gt_bboxes"] = boxes[left]
        for key in ("gt_bboxes_labels", "gt_ignore_flags", "gt_masks"):
            if key in results:
                results[key] = results[key][left]
    results["img_shape"] = results["img"].shape[:2]
    return results


def _pair(name: str, size: int | Sequence[int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2:
        raise ArgumentError(f"{name} is one number, or two", key=name, found=size)
    return check_count(name, pair[0]), check_count(name, pair[1])
