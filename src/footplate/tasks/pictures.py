"""The picture that belongs to a prediction."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.storage import exists, open_file
from footplate.structures import BaseDataElement
from footplate.visualization import as_array


def picture_of(output: BaseDataElement, data_batch: Any, position: int) -> npt.NDArray[np.uint8]:
    """Returns the picture as it lies on disk; of one that was composed in memory, what the model was given.

    Args:
        output: What the model made of it; `img_path` says where it lies.
        data_batch: What the loader gave: `inputs`, pictures ``(C, H, W)``.
        position: Its place in the batch.

    Returns:
        ``(H, W, 3)``, uint8, RGB.
    """
    path = output.get("img_path")
    if path is not None and exists(path):
        with open_file(path) as file, Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    inputs = data_batch["inputs"] if isinstance(data_batch, Mapping) else data_batch[0]
    planes = as_array(inputs[position])
    return np.ascontiguousarray(planes.transpose(1, 2, 0)).clip(0, 255).astype(np.uint8)
