"""Reading files and pictures as first-generation code does."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.errors import ArgumentError, nearest
from footplate.storage import read_bytes

_FLAGS = ("color", "grayscale", "unchanged")
_ORDERS = ("bgr", "rgb")


def imfrombytes(content: bytes, flag: str = "color", channel_order: str = "bgr") -> npt.NDArray[np.uint8]:
    """Returns a picture, `(H, W, 3)` or for "grayscale" `(H, W)`, uint8.

    Args:
        content: The bytes of its file.
        flag: "color", "grayscale" or "unchanged".
        channel_order: "bgr" or "rgb".

    Raises:
        ArgumentError: The flag or the order is unknown.
    """
    for name, value, known in (("flag", flag, _FLAGS), ("channel_order", channel_order, _ORDERS)):
        if value not in known:
            near = nearest(str(value), known)
            raise ArgumentError(f"{name} is one of {', '.join(known)}", key=name, found=value, suggestion=near)
    picture = Image.open(io.BytesIO(content))
    if flag == "unchanged":
        return np.asarray(picture)
    if flag == "grayscale":
        return np.asarray(picture.convert("L"))
    pixels = np.asarray(picture.convert("RGB"))
    return np.ascontiguousarray(pixels[..., ::-1]) if channel_order == "bgr" else pixels


def imread(path: str | Path, flag: str = "color", channel_order: str = "bgr") -> npt.NDArray[np.uint8]:
    """Returns the picture of a file; see `imfrombytes`."""
    return imfrombytes(read_bytes(str(path)), flag, channel_order)


def mkdir_or_exist(dir_name: str | Path, mode: int = 0o777) -> None:
    """Makes a folder and those above it."""
    Path(dir_name).expanduser().mkdir(mode=mode, parents=True, exist_ok=True)


class FileClient:
    """Reads files, wherever fsspec finds them.

    Args:
        backend: Known to existing code; the path says where a file is.
        options: The same.
    """

    def __init__(self, backend: str | None = None, **options: Any) -> None:
        self.backend = backend

    def get(self, filepath: str | Path) -> bytes:
        """Returns what a file holds."""
        return read_bytes(str(filepath))

    def get_text(self, filepath: str | Path, encoding: str = "utf-8") -> str:
        """Returns the text that a file holds."""
        return self.get(filepath).decode(encoding)
