"""Checks and decodes masks in COCO format."""

import importlib
import math
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footplate.errors import DataError, MissingExtraError, import_optional
from footplate.messages import first_line

_MIN_NUMBERS = 6  # three corners of a polygon
_MAX_DISTANCE = 10  # from the origin to a polygon corner, as a multiple of the longer image side


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
        segmentation: A list of polygons `[x1, y1, x2, y2, ...]`, or a compressed or uncompressed run-length encoding.
            Polygons with fewer than three corners are ignored.
        shape: Height and width of the image.

    Raises:
        DataError: The segmentation is malformed, or its size differs from the image size.
        MissingExtraError: Neither faster-coco-eval nor pycocotools is installed.

    Example:
        >>> decode_mask([[0, 0, 2, 0, 2, 2, 0, 2]], (3, 4)).astype(int).tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    """
    tools = mask_tools("reading masks")
    try:
        check_segmentation(segmentation, shape)
        runs = segmentation  # compressed run lengths, unless converted below
        if isinstance(segmentation, list):
            polygons = [polygon for polygon in segmentation if len(polygon) >= _MIN_NUMBERS]
            if not polygons:
                return np.zeros(shape, dtype=bool)
            runs = tools.merge(tools.frPyObjects(polygons, *shape))
        elif isinstance(segmentation["counts"], list):
            runs = tools.frPyObjects(segmentation, *shape)
        return tools.decode(runs).astype(bool)  # type: ignore[no-any-return]
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError, OverflowError) as error:
        message = f"a segmentation cannot be decoded: {first_line(error)}"
        raise DataError(message, found=str(segmentation)[:60]) from error


def check_segmentation(segmentation: Any, shape: tuple[int, int]) -> None:
    """Checks that a segmentation matches its image, so that decoding it cannot take excessive time or memory.

    Raises:
        DataError: The run lengths do not match the image size, or a corner is non-finite or far outside the image.
        TypeError, KeyError: The value is not a segmentation.
    """
    if not isinstance(segmentation, list):
        size = tuple(segmentation["size"])
        if size != tuple(shape):
            raise DataError(f"the size of a segmentation must be the image size {tuple(shape)}, not {size}")
        counts = segmentation["counts"]
        if isinstance(counts, list) and (min(counts, default=0) < 0 or sum(counts) != math.prod(shape)):
            raise DataError(f"run lengths must be non-negative integers that add up to {math.prod(shape)} pixels")
        return
    limit = _MAX_DISTANCE * max(shape)
    for polygon in segmentation:
        if len(polygon) and not np.abs(polygon).max() <= limit:  # also true for NaN
            raise DataError(f"a polygon has a point that is non-finite or far outside its image of size {tuple(shape)}")
