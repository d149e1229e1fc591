"""Replaces names that were removed from PyTorch, NumPy or Python but are still used in first-generation code."""

import importlib
import inspect
import os
from typing import Any

import numpy as np
import torch

from footplate.checkpoint import load_checkpoint

string_classes = (str, bytes)
sctypes = {
    "int": [np.int8, np.int16, np.int32, np.int64],
    "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
    "float": [np.float16, np.float32, np.float64, np.longdouble],
    "complex": [np.complex64, np.complex128, np.clongdouble],
}
torch_load = torch.load


def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Loads a file written by `torch.save`. If `f` is a path, no code in the file is executed.

    Args:
        f: A path or an open file. Open files are read with `torch.load`.
        map_location: The device for the tensors. Functions and dicts are supported only for open files; for a path,
            tensors are loaded to the CPU instead.
        args: Additional arguments for `torch.load`, used only for open files.
        kwargs: Additional keyword arguments for `torch.load`, used only for open files.
    """
    if isinstance(f, str | os.PathLike):
        has_device = isinstance(map_location, str | torch.device)
        return load_checkpoint(f, map_location if has_device else "cpu")
    return torch_load(f, map_location, *args, **kwargs)


def to_store(target: Any, value: Any) -> Any:
    """Returns the value to assign to an item of `target`.

    If `target` is an array, one-element arrays are converted to 0-d arrays.
    """
    return _scalar(value) if isinstance(target, np.ndarray) else value


def fill_poly(img: Any, pts: Any, color: Any, *args: Any, **kwargs: Any) -> Any:
    """Returns `cv2.fillPoly(img, pts, color, ...)`. The color may also be a scalar of NumPy."""
    plain = color.item() if isinstance(color, np.generic) else color
    return importlib.import_module("cv2").fillPoly(img, pts, plain, *args, **kwargs)


def to_float(value: Any) -> float:
    """Returns `float(value)`. Also accepts arrays with one element."""
    return float(_scalar(value))


def to_int(value: Any) -> int:
    """Returns `int(value)`. Also accepts arrays with one element."""
    return int(_scalar(value))


def _scalar(value: Any) -> Any:
    return value.reshape(()) if isinstance(value, np.ndarray) and value.size == 1 else value


def array(value: Any) -> np.ndarray[Any, Any]:
    """Returns `numpy.array(value)`, or an object array of shape (N,) if the items have different shapes."""
    try:
        return np.array(value)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
    found = np.empty(len(value), object)
    for index, each in enumerate(value):
        found[index] = each
    return found


def asfarray(a: Any, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    """Converts a value to an array of type `dtype`, or float64 if `dtype` is an integer type."""
    return np.asarray(a, dtype if np.issubdtype(dtype, np.inexact) else np.float64)


def uint8(value: Any = 0) -> Any:
    """Returns `numpy.uint8(value)`. Out-of-range integers wrap around."""
    return np.uint8(int(value) % 256 if isinstance(value, int | float) else value)


def in1d(ar1: Any, ar2: Any, **kwargs: Any) -> np.ndarray[Any, Any]:
    """Returns a flat boolean array that is True where an element of `ar1` is in `ar2`."""
    return np.isin(ar1, ar2, **kwargs).ravel()


def parts(value: Any) -> Any:
    """Returns the parts of a Shapely geometry with several parts, or any other value unchanged."""
    return value.geoms if type(value).__module__.startswith("shapely.") and hasattr(value, "geoms") else value


def use_style(style: Any) -> None:
    """Sets a style of Matplotlib. `seaborn-whitegrid`, for example, is now called `seaborn-v0_8-whitegrid`."""
    styles = importlib.import_module("matplotlib.style")
    renamed = f"seaborn-v0_8{style.removeprefix('seaborn')}" if isinstance(style, str) else ""
    styles.use(renamed if renamed in styles.available and style not in styles.available else style)


def getargspec(func: Any) -> tuple[Any, ...]:
    """Returns a function's argument names, the names of its *args and **kwargs parameters, and its default values."""
    return tuple(inspect.getfullargspec(func)[:4])


def strtobool(val: str) -> int:
    """Returns 1 for a string such as "yes" and 0 for a string such as "no".

    Raises:
        ValueError: The meaning of `val` is unknown.
    """
    if val.lower() in ("y", "yes", "t", "true", "on", "1"):
        return 1
    if val.lower() in ("n", "no", "f", "false", "off", "0"):
        return 0
    raise ValueError(f"'{val}' is neither yes nor no.")
