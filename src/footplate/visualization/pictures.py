"""Finds the image of a sample."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from footplate.storage import exists, open_file
from footplate.visualization.drawing import Picture, as_array


def picture_of(path: str | None, data_batch: Any, position: int) -> Picture | None:
    """Returns the image of a sample, ``(H, W, 3)``, RGB, or None if there is none.

    Args:
        path: The image file, or None for an image that was composed in memory.
        data_batch: The batch: a dict with `inputs`, or a sequence whose first item is the inputs. Inputs are ``(C, H,
            W)`` with values from 0 to 255.
        position: The index of the sample in the batch.
    """
    if path is not None and exists(path):
        with open_file(path) as file, Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    inputs = data_batch.get("inputs") if isinstance(data_batch, Mapping) else data_batch[0] if data_batch else None
    if inputs is None:
        return None
    planes = as_array(inputs[position])
    if planes.ndim != 3 or planes.shape[0] not in (1, 3):
        return None
    planes = np.repeat(planes, 3 // planes.shape[0], axis=0)
    return np.ascontiguousarray(planes.transpose(1, 2, 0)).clip(0, 255).astype(np.uint8)
