"""Reading files and pictures as first-generation code does."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.storage import read_bytes

_FLAGS = ("color", "grayscale", "unchanged")
_ORDERS = ("bgr", "rgb")
_BACKENDS = ("cv2", "pillow", "turbojpeg", "tifffile")


def imfrombytes(
    content: bytes, flag: str = "color", channel_order: str = "bgr", backend: str | None = None
) -> npt.NDArray[np.uint8]:
    """Returns a picture, `(H, W, 3)`, `(H, W, 4)` or `(H, W)`, uint8.

    Args:
        content: The bytes of its file.
        flag: "color", "grayscale", or "unchanged" for the channels that the file has, blue first.
        channel_order: "bgr" or "rgb", of "color".
        backend: Whose manners it has, "cv2" by default: "pillow" leaves a picture with a palette, as label maps are
            kept, its indices, where others give colours. Pillow reads all of them.

    Raises:
        ArgumentError: The flag, the order or the backend is unknown.
    """
    known_backend = ("backend", backend or _BACKENDS[0], _BACKENDS)
    for name, value, known in (("flag", flag, _FLAGS), ("channel_order", channel_order, _ORDERS), known_backend):
        if value not in known:
            near = nearest(str(value), known)
            raise ArgumentError(f"{name} is one of {', '.join(known)}", key=name, found=value, suggestion=near)
    picture = Image.open(io.BytesIO(content))
    if flag == "unchanged":
        return _unchanged(picture, indices=backend == "pillow")
    if flag == "grayscale":
        return np.asarray(picture.convert("L"))
    pixels = np.asarray(picture.convert("RGB"))
    return np.ascontiguousarray(pixels[..., ::-1]) if channel_order == "bgr" else pixels


def imread(
    path: str | Path | npt.NDArray[np.uint8],
    flag: str = "color",
    channel_order: str = "bgr",
    backend: str | None = None,
    file_client_args: Any = None,
) -> npt.NDArray[np.uint8]:
    """Returns the picture of a file, or one that is read already; see `imfrombytes`."""
    if isinstance(path, np.ndarray):
        return path
    return imfrombytes(read_bytes(str(path)), flag, channel_order, backend)


def _unchanged(picture: Image.Image, *, indices: bool) -> npt.NDArray[np.uint8]:
    pixels = np.asarray(picture.convert("RGB") if picture.mode == "P" and not indices else picture)
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        return np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=2)
    return pixels


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
