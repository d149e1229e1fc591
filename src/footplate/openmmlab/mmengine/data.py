"""Functions and types from `mmengine` for data, metrics, writers and images, used only by code bases."""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor

from footplate.data.data_element import BaseDataElement
from footplate.data.rng import seed_generators
from footplate.errors import ArgumentError
from footplate.evaluation.metric import to_device
from footplate.visualization import ImageArray, as_array, draw_featmap

DATA_BATCH = dict[str, Any] | tuple[Any, ...] | list[Any] | None
SUFFIX_TYPE = Sequence[str] | str


def _after(method: str, flag: str, old_func: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a method so that it calls `self.<method>()` first, unless `self.<flag>` is set."""

    @wraps(old_func)
    def initialized(obj: Any, *args: Any, **kwargs: Any) -> Any:
        if not getattr(obj, flag, False):
            getattr(obj, method)()
            setattr(obj, flag, True)
        return old_func(obj, *args, **kwargs)

    return initialized


force_full_init = partial(_after, "full_init", "_fully_initialized")
"""Decorates a dataset method. The method then loads the annotations first if they are not loaded yet."""
force_init_env = partial(_after, "_init_env", "_env_initialized")
"""Decorates a writer method. The first call to a decorated method also calls `_init_env`."""


def worker_init_fn(
    worker_id: int, num_workers: int, rank: int, seed: int, disable_subprocess_warning: bool = False
) -> None:
    """Seeds Python, NumPy and PyTorch in a worker process with `seed + num_workers * rank + worker_id`."""
    seed_generators(num_workers * rank + worker_id + seed)


_to_cpu = partial(to_device, device="cpu")


def check_type(name: str, value: Any, valid_type: type | tuple[type, ...]) -> None:
    """Raises TypeError if a value does not have a valid type."""
    if not isinstance(value, valid_type):
        types = valid_type if isinstance(valid_type, tuple) else (valid_type,)
        names = " or ".join(each.__name__ for each in types)
        raise TypeError(f"'{name}' must be of type {names}, not {type(value).__name__}.")


def check_type_and_length(name: str, value: Any, valid_type: type | tuple[type, ...], valid_length: int) -> None:
    """Raises TypeError if a value or list item has the wrong type, or AssertionError if a list has the wrong length."""
    check_type(name, value, (list, *(valid_type if isinstance(valid_type, tuple) else (valid_type,))))
    if isinstance(value, list):
        if len(value) != valid_length:
            raise AssertionError(f"'{name}' must have {valid_length} items, not {len(value)}.")
        for item in value:
            check_type(name, item, valid_type)


def value2list(value: Any, valid_type: type | tuple[type, ...], expand_dim: int) -> list[Any]:
    """Returns a list of `expand_dim` copies of a value if its type is valid, otherwise the value itself."""
    return [value] * expand_dim if isinstance(value, valid_type) else value


def convert_overlay_heatmap(feat_map: Any, img: Any = None, alpha: float = 0.5) -> ImageArray:
    """Draws a heatmap of shape ``(H, W)`` or ``(1, H, W)`` as a uint8 RGB image of shape ``(H, W, 3)``.

    If `img` is set, blends the heatmap with this image. `alpha` is the weight of the heatmap.
    """
    channel = as_array(feat_map)
    return draw_featmap(channel if channel.ndim == 3 else channel[None], img, alpha=alpha)


def color_val_matplotlib(colors: Any) -> Any:
    """Converts colors to matplotlib's format: keeps names, and scales RGB values from 0 to 255 to 0 to 1."""
    if isinstance(colors, str):
        return colors
    if isinstance(colors, list):
        return [color_val_matplotlib(color) for color in colors]
    return tuple(channel / 255 for channel in colors)


class LabelData(BaseDataElement):
    """A data element for image-level labels and scores, with conversions between class indices and one-hot labels."""

    @staticmethod
    def onehot_to_label(onehot: Tensor) -> Tensor:
        """Converts a one-hot or multi-hot tensor of shape ``(num_classes,)`` to class indices (int64, ascending).

        Raises:
            ArgumentError: The tensor is not one-dimensional, or has values other than 0 and 1.
        """
        if onehot.dim() != 1 or not ((onehot == 0) | (onehot == 1)).all():
            raise ArgumentError("a one-hot label must be a one-dimensional tensor of zeros and ones", found=onehot)
        return onehot.nonzero().flatten()

    @staticmethod
    def label_to_onehot(label: Tensor, num_classes: int) -> Tensor:
        """Converts class indices to a one-hot or multi-hot tensor of shape ``(num_classes,)`` with the same dtype.

        Raises:
            ArgumentError: An index is not between 0 and `num_classes - 1`.
        """
        if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < num_classes:
            raise ArgumentError(f"labels must be between 0 and {num_classes - 1}", found=label.tolist())
        onehot = torch.zeros(num_classes, dtype=label.dtype, device=label.device)
        onehot[label.long()] = 1
        return onehot
