"""Masks as COCO files hold them: polygons and run lengths."""

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.errors import DataError, MissingExtraError

_FEWEST_NUMBERS = 6  # of a polygon: three corners


def coco_package(why: str) -> ModuleType:
    """Returns the package that reads masks and evaluates in the COCO way.

    Args:
        why: What asks for it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        found = importlib.import_module("faster_coco_eval")
    except ImportError as error:
        raise MissingExtraError("faster-coco-eval", extra="detection", why=why) from error
    return found


def decode_mask(segmentation: Any, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Returns the mask ``(H, W)`` of a segmentation as COCO files hold it.

    Args:
        segmentation: Polygons, each `[x1, y1, x2, y2, ...]`, of which those with less than three corners are left
            out; or run lengths, compressed or not.
        shape: Height and width of the picture.

    Raises:
        DataError: It is none of these, or of another size than the picture.
        MissingExtraError: The package faster-coco-eval is not installed.

    Example:
        >>> decode_mask([[0, 0, 2, 0, 2, 2, 0, 2]], (3, 4)).astype(int).tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    """
    tools = coco_package("reading masks")
    try:
        runs = _runs(tools, segmentation, shape)
        decoded = np.zeros(shape, dtype=bool) if runs is None else tools.mask.decode(runs)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
        why = str(error).split("\n", 1)[0]
        raise DataError(f"a segmentation cannot be read: {why}", found=str(segmentation)[:60]) from error
    if decoded.shape != tuple(shape):
        raise DataError(f"a segmentation of the size {decoded.shape} lies in a picture of the size {tuple(shape)}")
    found: npt.NDArray[np.bool_] = decoded.astype(bool)
    return found


def encode_mask(mask: npt.NDArray[Any]) -> dict[str, Any]:
    """Returns the compressed run lengths of a mask ``(H, W)``, as text that JSON takes.

    Raises:
        MissingExtraError: The package faster-coco-eval is not installed.
    """
    runs = coco_package("writing masks").mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}


def _runs(tools: ModuleType, segmentation: Any, shape: tuple[int, int]) -> Any:
    """Compressed run lengths; None where no polygon is left."""
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= _FEWEST_NUMBERS]
        return tools.mask.merge(tools.mask.frPyObjects(polygons, *shape)) if polygons else None
    if isinstance(segmentation["counts"], list):
        return tools.mask.frPyObjects(segmentation, *segmentation["size"])
    return segmentation
