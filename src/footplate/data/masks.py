"""Encodes and decodes masks in COCO format, which are polygons or run lengths."""

import importlib
import math
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.errors import DataError, MissingExtraError

_FEWEST_NUMBERS = 6  # three corners of a polygon
_FARTHEST = 10  # the maximum coordinate of a corner, in units of the longer image side
_LONGEST_OUTLINE = 200  # in units of height + width; drawing takes about 100 bytes per pixel of the outline


def coco_package(why: str) -> ModuleType:
    """Imports the package that reads masks and computes COCO metrics.

    Args:
        why: The feature that needs it, for the error.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        found = importlib.import_module("faster_coco_eval")
    except ImportError as error:
        raise MissingExtraError("faster-coco-eval", extra="detection", why=why) from error
    return found


def decode_mask(segmentation: Any, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Decodes a segmentation in COCO format to a mask, ``(H, W)``, bool.

    Args:
        segmentation: Polygons, each `[x1, y1, x2, y2, ...]`, or run lengths, compressed or not. Polygons with fewer
            than three corners are ignored.
        shape: Height and width of the image.

    Raises:
        DataError: It is none of these, or of another size than the picture.
        MissingExtraError: The package faster-coco-eval is not installed.

    Example:
        >>> decode_mask([[0, 0, 2, 0, 2, 2, 0, 2]], (3, 4)).astype(int).tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    """
    tools = coco_package("reading masks")
    try:
        check_segmentation(segmentation, shape)
        runs = _runs(tools, segmentation, shape)
        decoded = np.zeros(shape, dtype=bool) if runs is None else tools.mask.decode(runs)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError, OverflowError) as error:
        why = str(error).split("\n", 1)[0]
        raise DataError(f"a segmentation cannot be read: {why}", found=str(segmentation)[:60]) from error
    if decoded.shape != tuple(shape):
        raise DataError(f"a segmentation of the size {decoded.shape} lies in a picture of the size {tuple(shape)}")
    found: npt.NDArray[np.bool_] = decoded.astype(bool)
    return found


def check_segmentation(segmentation: Any, shape: tuple[int, int]) -> None:
    """Checks that decoding a mask takes an amount of time and memory that fits the size of its image.

    Args:
        segmentation: See `decode_mask`.
        shape: Height and width of the image.

    Raises:
        DataError: Run lengths are of another size, a corner is not finite or far outside, or an outline is very long.
        TypeError: It is no segmentation.
        KeyError: It is no segmentation.
    """
    if not isinstance(segmentation, list):
        size = tuple(segmentation["size"])
        if size != tuple(shape) or any(type(each) is not int for each in size):
            raise DataError(f"a segmentation of the size {size} lies in a picture of the size {tuple(shape)}")
        counts = segmentation["counts"]
        if isinstance(counts, list) and not (
            all(type(each) is int and each >= 0 for each in counts) and sum(counts) == math.prod(shape)
        ):
            raise DataError(f"the run lengths of a segmentation do not add up to {math.prod(shape)} pixels")
        return
    most = _FARTHEST * max(shape)
    for polygon in segmentation:
        total = math.fsum(polygon) if len(polygon) else 0.0
        if not math.isfinite(total) or (polygon and not -most <= min(polygon) <= max(polygon) <= most):
            raise DataError(f"a corner of a segmentation lies far outside of its picture of the size {tuple(shape)}")
        if len(polygon) * most > _LONGEST_OUTLINE * sum(shape):  # otherwise the outline cannot be too long
            _check_outline(np.asarray(polygon, dtype=np.float64), shape)


def _check_outline(polygon: npt.NDArray[np.float64], shape: tuple[int, int]) -> None:
    corners = polygon[: len(polygon) // 2 * 2].reshape(-1, 2)
    length = np.abs(np.diff(corners, axis=0, append=corners[:1])).max(axis=1).sum()
    if length > _LONGEST_OUTLINE * sum(shape):
        raise DataError(f"the outline of a segmentation is {length:.0f} pixels long in a picture of {tuple(shape)}")


def encode_mask(mask: npt.NDArray[Any]) -> dict[str, Any]:
    """Encodes a mask ``(H, W)`` as compressed run lengths that can be written as JSON.

    Raises:
        MissingExtraError: The package faster-coco-eval is not installed.
    """
    runs = coco_package("writing masks").mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}


def _runs(tools: ModuleType, segmentation: Any, shape: tuple[int, int]) -> Any:
    """Returns compressed run lengths, or None if no polygon has enough corners."""
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= _FEWEST_NUMBERS]
        return tools.mask.merge(tools.mask.frPyObjects(polygons, *shape)) if polygons else None
    if isinstance(segmentation["counts"], list):
        return tools.mask.frPyObjects(segmentation, *segmentation["size"])
    return segmentation
