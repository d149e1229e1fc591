"""The picture that belongs to a sample."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from footplate.storage import exists, open_file
from footplate.visualization.drawing import Picture, as_array


def picture_of(path: str | None, data_batch: Any, position: int) -> Picture | None:
    """Returns the picture of a sample, ``(H, W, 3)``, RGB; None where there is none.

    Args:
        path: Its file; of a picture that was composed in memory there is none.
        data_batch: What the loader gave: a dict with `inputs`, or a sequence that begins with them, each ``(C, H, W)``
            with values from 0 to 255.
        position: Which one of the batch.
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
