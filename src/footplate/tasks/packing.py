"""Helpers for the packing transforms of the tasks."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from footplate.errors import DataError


def loaded(results: Mapping[str, Any], key: str = "img") -> Any:
    """Returns the image of a pipeline's results.

    Raises:
        DataError: No image was loaded.
    """
    if key not in results:
        raise DataError(f"the pipeline has loaded no picture: there is no '{key}'", found=sorted(results))
    return results[key]


def as_planes(image: Any) -> Tensor:
    """Copies an image ``(H, W, C)`` or ``(H, W)`` to a tensor ``(C, H, W)`` of the same dtype."""
    pixels = np.asarray(image)
    return torch.from_numpy(np.array(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), order="C"))


def chosen(results: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Returns the entries of `keys` that are present."""
    return {key: results[key] for key in keys if key in results}
