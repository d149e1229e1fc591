"""File and image functions of mmcv that first-generation code imports."""

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
    """Decodes an image, `(H, W, 3)`, `(H, W, 4)` or `(H, W)`, uint8.

    Args:
        content: The encoded image.
        flag: "color", "grayscale", or "unchanged" for the channels of the file in BGR order.
        channel_order: "bgr" or "rgb", for the flag "color".
        backend: The backend whose result is reproduced, "cv2" by default. With "pillow" and "unchanged", an image with
            a palette, such as a label map, is returned as indices, otherwise as colours. Pillow decodes all images.

    Raises:
        ArgumentError: The flag, the channel order or the backend is unknown.
    """
    known_backend = ("backend", backend or _BACKENDS[0], _BACKENDS)
    for name, value, known in (("flag", flag, _FLAGS), ("channel_order", channel_order, _ORDERS), known_backend):
        if value not in known:
            near = nearest(str(value), known)
            raise ArgumentError(f"{name} must be one of {', '.join(known)}", key=name, found=value, suggestion=near)
    image = Image.open(io.BytesIO(content))
    if flag == "unchanged":
        return _unchanged(image, indices=backend == "pillow")
    if flag == "grayscale":
        return np.asarray(image.convert("L"))
    pixels = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(pixels[..., ::-1]) if channel_order == "bgr" else pixels


def imread(
    path: str | Path | npt.NDArray[np.uint8],
    flag: str = "color",
    channel_order: str = "bgr",
    backend: str | None = None,
    file_client_args: Any = None,
) -> npt.NDArray[np.uint8]:
    """Reads an image file as `imfrombytes` does; returns an array unchanged."""
    if isinstance(path, np.ndarray):
        return path
    return imfrombytes(read_bytes(str(path)), flag, channel_order, backend)


def _unchanged(image: Image.Image, *, indices: bool) -> npt.NDArray[np.uint8]:
    pixels = np.asarray(image.convert("RGB") if image.mode == "P" and not indices else image)
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        return np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=2)
    return pixels


def mkdir_or_exist(dir_name: str | Path, mode: int = 0o777) -> None:
    """Creates a folder and its parents."""
    Path(dir_name).expanduser().mkdir(mode=mode, parents=True, exist_ok=True)


class FileClient:
    """Reads files from any storage that fsspec supports.

    Args:
        backend: Ignored; the path determines the storage.
        options: Ignored.
    """

    def __init__(self, backend: str | None = None, **options: Any) -> None:
        self.backend = backend

    def get(self, filepath: str | Path) -> bytes:
        """Returns the content of a file."""
        return read_bytes(str(filepath))

    def get_text(self, filepath: str | Path, encoding: str = "utf-8") -> str:
        """Returns the content of a text file."""
        return self.get(filepath).decode(encoding)
