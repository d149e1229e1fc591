"""Finds the image that belongs to a prediction."""

from typing import Any

from footplate import visualization
from footplate.data.structures import BaseDataElement
from footplate.errors import DataError
from footplate.visualization import Picture


def picture_of(output: BaseDataElement, data_batch: Any, position: int) -> Picture:
    """Returns the image file of a sample, or the model input if the image was composed in memory.

    Args:
        output: The sample with the prediction; `img_path` is the path of the image.
        data_batch: The batch of the loader, with images ``(C, H, W)`` in `inputs`.
        position: The position of the sample in the batch.

    Returns:
        ``(H, W, 3)``, uint8, RGB.

    Raises:
        DataError: The batch contains no image.
    """
    found = visualization.picture_of(output.get("img_path"), data_batch, position)
    if found is None:
        raise DataError("the batch holds no picture (C, H, W) of 1 or 3 channels", found=type(data_batch))
    return found
