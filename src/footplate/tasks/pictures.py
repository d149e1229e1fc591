"""The picture that belongs to a prediction."""

from typing import Any

from footplate import visualization
from footplate.errors import DataError
from footplate.structures import BaseDataElement
from footplate.visualization import Picture


def picture_of(output: BaseDataElement, data_batch: Any, position: int) -> Picture:
    """Returns the picture as it lies on disk; of one that was composed in memory, what the model was given.

    Args:
        output: What the model made of it; `img_path` says where it lies.
        data_batch: What the loader gave: `inputs`, pictures ``(C, H, W)``.
        position: Its place in the batch.

    Returns:
        ``(H, W, 3)``, uint8, RGB.

    Raises:
        DataError: There is no picture in the batch.
    """
    found = visualization.picture_of(output.get("img_path"), data_batch, position)
    if found is None:
        raise DataError("the batch holds no picture (C, H, W) of 1 or 3 channels", found=type(data_batch))
    return found
