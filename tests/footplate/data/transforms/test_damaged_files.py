"""A damaged image file is decoded, or reported by an error with its path, which `on_error='skip'` covers."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from footplate.errors import DataError
from footplate.registry import TRANSFORMS

_FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 50},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
    "WEBP": {},
    "PPM": {},
    "GIF": {},
}


def write_damaged(path: Path, rng: np.random.Generator) -> None:
    """Writes an image of a random format with an EXIF orientation and a few wrong, missing or repeated bytes."""
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    exif[0x010F] = "a camera"
    file, (name, options) = io.BytesIO(), list(_FORMATS.items())[rng.integers(len(_FORMATS))]
    image = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    image.convert(str(rng.choice(("RGB", "L")))).save(file, name, exif=exif, **options)
    content = bytearray(file.getvalue())
    for _ in range(rng.integers(1, 6)):  # mostly in the header
        begin = int(rng.integers(len(content) if rng.random() < 0.5 else min(len(content), 200)))
        content[begin : begin + 1] = rng.bytes(int(rng.integers(3)))
    path.write_bytes(content[: int(rng.integers(len(content)))] if rng.random() < 0.2 else content)


def check_damaged(folder: Path, seed: int) -> None:
    rng, path = np.random.default_rng(seed), folder / "damaged.png"
    write_damaged(path, rng)
    color_type = str(rng.choice(("color", "grayscale", "unchanged", "color_ignore_orientation")))
    loads = (
        ("image", TRANSFORMS.build({"type": "LoadImageFromFile", "color_type": color_type})),
        ("label map", TRANSFORMS.build({"type": "LoadAnnotations", "with_seg": True})),
    )
    for noun, load in loads:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's
                load({"img_path": str(path), "seg_map_path": str(path)})
        except DataError as error:
            assert f"the {noun} '{path}'" in str(error)  # noqa: PT017


def test_damaged_files_are_decoded_or_reported(tmp_path: Path) -> None:
    for seed in range(200):
        check_damaged(tmp_path, seed)
