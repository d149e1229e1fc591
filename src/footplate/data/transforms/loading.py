"""Loads images."""

import io
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from footplate.data.annotations import read_file
from footplate.data.transforms.base import BaseTransform
from footplate.errors import ArgumentError, DataError
from footplate.messages import nearest
from footplate.registry import TRANSFORMS

ColorType = Literal["color", "grayscale", "unchanged", "color_ignore_orientation", "grayscale_ignore_orientation"]


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Loads the image at `img_path` as `img`, ``(H, W, 3)`` or ``(H, W)``, uint8, with `img_shape` and `ori_shape`.

    Args:
        to_float32: Whether to convert the values to float32.
        color_type: "color" for three channels, "grayscale" for one channel, or "unchanged" for the channels of the
            file. With the suffix "_ignore_orientation", the EXIF orientation is ignored.
        ignore_empty: Whether to drop an image that cannot be read instead of raising an error.
        channel_order: The order of channels for "color": "bgr", which OpenMMLab configs expect, or "rgb".
        imdecode_backend: Accepted for compatibility and ignored; Pillow decodes the files.
        backend_args: Accepted for compatibility and ignored; the URL of a file determines the storage.
        file_client_args: Accepted for compatibility and ignored, as `backend_args`.

    Raises:
        DataError: The picture cannot be read.
        ArgumentError: An argument makes no sense.
    """

    keepable: ClassVar[bool] = True

    def __init__(
        self,
        to_float32: bool = False,
        color_type: ColorType = "color",
        imdecode_backend: str | None = None,
        file_client_args: dict[str, Any] | None = None,
        ignore_empty: bool = False,
        *,
        channel_order: Literal["bgr", "rgb"] = "bgr",
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        if color_type not in get_args(ColorType):
            near = nearest(color_type, get_args(ColorType))
            raise ArgumentError(f"unknown color_type '{color_type}'", key="color_type", suggestion=near)
        if channel_order not in ("bgr", "rgb"):
            raise ArgumentError("channel_order is 'bgr' or 'rgb'", key="channel_order", found=channel_order)
        self.to_float32 = to_float32
        self.color_type = color_type
        self.ignore_empty = ignore_empty
        self.channel_order = channel_order

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Adds the image to the sample."""
        path = results["img_path"]
        try:
            picture = self._decode(path)
        except DataError:
            if self.ignore_empty:
                return None
            raise
        results["img"] = picture.astype(np.float32) if self.to_float32 else picture
        results["img_shape"] = results["ori_shape"] = picture.shape[:2]
        return results

    def _decode(self, path: str) -> NDArray[Any]:
        content = read_file(path)
        try:
            with Image.open(io.BytesIO(content)) as opened:
                picture: Image.Image = opened
                if not self.color_type.endswith("ignore_orientation") and self.color_type != "unchanged":
                    picture = ImageOps.exif_transpose(opened)
                if self.color_type != "unchanged":
                    picture = picture.convert("RGB" if self.color_type.startswith("color") else "L")
                values = np.array(picture)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"the picture '{path}' cannot be read: {why_unreadable(error)}") from error
        reverse = self.color_type.startswith("color") and self.channel_order == "bgr"
        return np.ascontiguousarray(values[..., ::-1]) if reverse else values


def why_unreadable(error: Exception) -> str:
    """Returns why an image cannot be read; Pillow's message for an unknown format contains a memory address."""
    return "its format is not known" if isinstance(error, UnidentifiedImageError) else str(error)
