"""Transforms that crop and pad images together with their boxes, masks and label maps.

A sample has the image `img` of shape ``(H, W)`` or ``(H, W, 3)`` and, optionally, `gt_seg_map` of shape ``(H, W)``,
`gt_masks` of shape ``(N, H, W)`` and `gt_bboxes` of shape ``(N, 4)``, with the columns x1, y1, x2 and y2 in pixels.

By convention, the `crop_size` of `RandomCrop` and the `size` of `Pad` are (height, width).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from footplate.checks import check_choice, check_count, check_number
from footplate.data.transforms.pipeline import BaseTransform, Sample, check_size
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS

PaddingMode = Literal["constant", "edge", "reflect", "symmetric"]
_ATTEMPTS = 10  # the maximum number of crops to draw


@TRANSFORMS.register_module()
class RandomCrop(BaseTransform):
    """Crops the image at a random position and removes boxes outside the crop. Does not pad smaller images.

    Args:
        crop_size: Height and width, or one number for both.
        cat_max_ratio: The fraction of a crop's labeled pixels that no class may reach. Otherwise, another crop is
            drawn, up to 10 times; the last one is used in any case. Values below 1 require `gt_seg_map`.
        ignore_index: The label of ignored pixels.

    Raises:
        ArgumentError: A length is not positive, or `cat_max_ratio` is not in (0, 1].
    """

    def __init__(self, crop_size: int | tuple[int, int], cat_max_ratio: float = 1.0, ignore_index: int = 255) -> None:
        check_number("cat_max_ratio", cat_max_ratio, above=0, most=1)
        self.crop_size = check_size("crop_size", crop_size)
        self.cat_max_ratio = cat_max_ratio
        self.ignore_index = ignore_index

    def transform(self, results: Sample) -> Sample:
        """Crops the sample."""
        crop = self._draw_crop(results["img"].shape)
        if self.cat_max_ratio < 1:
            for _ in range(_ATTEMPTS):
                counts = self._counts(results["gt_seg_map"][crop])
                if len(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio:
                    break
                crop = self._draw_crop(results["img"].shape)
        return crop_sample(results, crop)

    def _counts(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Returns how often each label occurs that is not ignored."""
        if labels.dtype != np.uint8:
            return np.unique(labels[labels != self.ignore_index], return_counts=True)[1]
        counts: NDArray[Any] = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
        if 0 <= self.ignore_index < len(counts):
            counts[self.ignore_index] = 0
        return counts[counts > 0]

    def _draw_crop(self, shape: Sequence[int]) -> tuple[slice, slice]:
        """Returns the rows and columns of a random crop."""
        height, width = self.crop_size
        top = int(np.random.randint(max(shape[0] - height, 0) + 1))
        left = int(np.random.randint(max(shape[1] - width, 0) + 1))
        return slice(top, top + height), slice(left, left + width)


@TRANSFORMS.register_module()
class Pad(BaseTransform):
    """Pads the image, its label map and its masks on the right and at the bottom.

    Args:
        size: The minimum width and height of the result, in this order, as in mmcv.
        size_divisor: An alternative to `size`: height and width are padded to multiples of this number.
        pad_val: The padding value of images, or `dict(img=..., seg=...)`. The value of images may have one number for
            each channel. Label maps are padded with 255 by default.
        padding_mode: "constant" for `pad_val`. Otherwise, images and label maps continue: "edge" repeats the last
            pixel, "reflect" mirrors the image without its last pixel, and "symmetric" with it.

    Raises:
        ArgumentError: `size` and `size_divisor` are both set or both missing, or one of them is not positive.
    """

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        size_divisor: int | None = None,
        pad_val: float | Mapping[str, float | Sequence[float]] = 0,
        padding_mode: PaddingMode = "constant",
    ) -> None:
        if (size is None) == (size_divisor is None):
            raise ArgumentError("Pad requires either size or size_divisor, but not both", key="size", found=size)
        self.size = None if size is None else check_size("size", size)[::-1]
        self.divisor = 1 if size_divisor is None else check_count("size_divisor", size_divisor)
        values = pad_val if isinstance(pad_val, Mapping) else {"img": pad_val}
        self.values = {"img": values.get("img", 0), "gt_seg_map": values.get("seg", 255), "gt_masks": 0}
        check_choice("padding_mode", padding_mode, get_args(PaddingMode))
        self.padding_mode = padding_mode

    def transform(self, results: Sample) -> Sample:
        """Pads the sample and adds `pad_shape`."""
        shape = results["img"].shape[:2]
        least = self.size or tuple(-(-length // self.divisor) * self.divisor for length in shape)
        bottom, right = (max(0, wanted - present) for wanted, present in zip(least, shape, strict=True))
        for key, value in self.values.items():
            if key in results:
                array, is_mask = results[key], key == "gt_masks"
                mode: PaddingMode = "constant" if is_mask else self.padding_mode
                margins = [(0, 0)] * is_mask + [(0, bottom), (0, right)]
                padded = np.pad(array, margins + [(0, 0)] * (array.ndim - len(margins)), mode)
                if mode == "constant" and not is_mask:
                    padded[shape[0] :] = padded[:, shape[1] :] = value
                results[key] = padded
        results["pad_shape"] = results["img_shape"] = results["img"].shape[:2]
        return results


def crop_sample(results: Sample, crop: tuple[slice, slice]) -> Sample:
    """Crops a sample in place to the rows and columns in `crop`, and returns it.

    Clips boxes to the crop. Removes boxes outside the crop, together with their labels and masks.
    """
    for key in ("img", "gt_seg_map", "gt_masks"):
        if key in results:
            results[key] = np.ascontiguousarray(results[key][(..., *crop) if key == "gt_masks" else crop])
    results["img_shape"] = results["img"].shape[:2]
    if "gt_bboxes" in results:
        rows, columns = crop
        height, width = results["img_shape"]
        boxes = results["gt_bboxes"] - np.array([columns.start, rows.start] * 2, dtype=np.float32)
        boxes = np.clip(boxes, 0, np.array([width, height] * 2, dtype=np.float32))
        is_inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        results["gt_bboxes"] = boxes[is_inside]
        for key in ("gt_bboxes_labels", "gt_ignore_flags", "gt_masks"):
            if key in results:
                results[key] = results[key][is_inside]
    return results
