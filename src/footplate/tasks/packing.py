"""What the last steps of the tasks' pipelines share."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from footplate.errors import DataError


def loaded(results: Mapping[str, Any], key: str = "img") -> Any:
    """Returns the picture of a pipeline's dict.

    Raises:
        DataError: There is none.
    """
    if key not in results:
        raise DataError(f"the pipeline has loaded no picture: there is no '{key}'", found=sorted(results))
    return results[key]


def as_planes(image: Any) -> Tensor:
    """Returns a picture ``(H, W, C)`` or ``(H, W)`` as a tensor ``(C, H, W)`` of its type, with memory of its own."""
    pixels = np.asarray(image)
    return torch.from_numpy(np.array(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), order="C"))


def chosen(results: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Returns the entries of `keys` that are there."""
    return {key: results[key] for key in keys if key in results}
