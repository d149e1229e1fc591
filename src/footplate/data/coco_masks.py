"""Checks and decodes masks in COCO format."""

import importlib
import math
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from footplate.errors import DataError, MissingExtraError, import_optional

_MIN_NUMBERS = 6  # three corners of a polygon
_MAX_DISTANCE = 10  # from the origin to a polygon corner, as a multiple of the longer image side
_MAX_BITS = 50  # of a run length


def coco_package(why: str) -> Any:
    """Imports and returns the package that decodes COCO masks and computes COCO metrics.

    `why` is the feature that needs the package; it appears in the error message if the package is missing.

    Raises:
        MissingExtraError: The package is not installed.
    """
    return import_optional("faster_coco_eval", package="faster-coco-eval", extra="detection", why=why)


def mask_tools(why: str) -> Any:
    """Imports the mask module of faster-coco-eval or else pycocotools. Raises MissingExtraError if neither exists."""
    try:
        return coco_package(why).mask
    except MissingExtraError:
        with suppress(ImportError):
            return importlib.import_module("pycocotools.mask")
        raise


def decode_mask(segmentation: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Decodes a segmentation in COCO format into a boolean mask of shape ``(H, W)``.

    Args:
        segmentation: See `check_segmentation`.
        shape: Height and width of the image.

    Raises:
        DataError: The segmentation is malformed, or its size differs from the image size.
        MissingExtraError: Polygons need faster-coco-eval or pycocotools, and neither is installed.

    Example:
        >>> decode_mask([[0, 0, 2, 0, 2, 2, 0, 2]], (3, 4)).astype(int).tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    """
    segmentation = check_segmentation(segmentation, shape)
    if isinstance(segmentation, list):
        tools = mask_tools("reading masks")
        segmentation = tools.merge(tools.frPyObjects(segmentation, *shape))
    ends = np.cumsum(_run_lengths(segmentation["counts"])).tolist()
    columns = np.zeros(shape[::-1], np.uint8)
    for begin, end in zip(ends[::2], ends[1::2], strict=False):
        columns.reshape(-1)[begin:end] = 1
    mask: NDArray[np.bool_] = cv2.transpose(columns).view(bool)
    return mask


def check_segmentation(segmentation: Any, shape: tuple[int, int]) -> Any:
    """Returns a segmentation that can be decoded without excessive time or memory.

    Args:
        segmentation: A list of polygons `[x1, y1, x2, y2, ...]`, a single polygon, or a compressed or uncompressed
            run-length encoding. Polygons with fewer than three corners are left out.
        shape: Height and width of the image.

    Raises:
        DataError: The value is not a segmentation, no polygon is left, a corner is non-finite or far outside the image,
            or the run lengths do not match the image size.
    """
    if isinstance(segmentation, dict):
        if segmentation.get("size") not in (list(shape), tuple(shape)):
            raise DataError("the 'size' of a mask is not the height and width of its image", found=segmentation)
        counts = _run_lengths(segmentation.get("counts"))
        if min(counts, default=0) < 0 or sum(counts) != math.prod(shape):
            raise DataError("run lengths do not add up to the pixels of their image", found=segmentation)
        return segmentation
    if not isinstance(segmentation, list):
        raise DataError("a segmentation is neither a list of polygons nor run lengths", found=segmentation)
    is_flat = not any(isinstance(polygon, (list, np.ndarray)) for polygon in segmentation)
    polygons = [segmentation] if is_flat else segmentation  # VIA writes a single polygon without the outer list
    for polygon in polygons:
        try:
            corners = np.asarray(polygon)
        except ValueError:  # lists of different lengths
            corners = np.empty(0, dtype=object)
        if corners.ndim != 1 or corners.dtype.kind not in "iuf" or len(corners) % 2:
            raise DataError("a polygon is not a list of numbers x1, y1, x2, y2, ...", found=segmentation)
        if not np.abs(corners).max(initial=0) <= _MAX_DISTANCE * max(shape):  # also true for NaN
            raise DataError("a polygon has a corner that is non-finite or far outside its image", found=segmentation)
    polygons = [polygon for polygon in polygons if len(polygon) >= _MIN_NUMBERS]
    if not polygons:
        raise DataError("a segmentation has no polygon with at least three corners", found=segmentation)
    return polygons


def _run_lengths(counts: Any) -> list[int]:
    """Returns run lengths, decompressed if they are text: 5 bits per character, as differences from the second last.

    The decoders of pycocotools and faster-coco-eval read and write arbitrary memory if the text is damaged.

    Raises:
        DataError: The run lengths are malformed.
    """
    if isinstance(counts, list) and all(type(count) is int for count in counts):
        return counts
    lengths: list[int] = []
    value = shift = 0
    codes = counts if isinstance(counts, bytes) else str(counts).encode() if isinstance(counts, str) else b"\0"
    for code in codes:
        if not 0 <= code - 48 < 64 or shift > _MAX_BITS:
            break
        value |= (code - 48 & 31) << shift
        shift += 5
        if not code - 48 & 32:
            value -= (code - 48 & 16) << shift - 4  # the sign
            lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
            value = shift = 0
    else:
        if not shift:
            return lengths
    raise DataError("run lengths are neither a list of integers nor COCO's compressed text", found=counts)
