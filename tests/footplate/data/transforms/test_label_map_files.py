"""Label maps of any mode and dtype become exactly the labels in the file, or an error with the file and the value."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from footplate.errors import DataError
from footplate.registry import TRANSFORMS

_TIFF_DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")
_MODES = ("1", "L", "P", "LA", "PA", "I;16", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F")
_WRONG = (0.5, 254.99, np.nan, np.inf, -np.inf, -1, -128, 256, 257, 300, 32768, 65535, 1e-6)


def write_tiff(path: Path, values: NDArray[Any]) -> None:
    """Writes an uncompressed TIFF file of one channel, `(H, W)`, of any dtype and byte order, as GIS tools do."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    sample_format = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: 8 * values.dtype.itemsize, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags |= {279: len(data), 339: sample_format}
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", value) for tag, value in sorted(tags.items())
    )
    header = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8 + len(data))
    path.write_bytes(header + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))


def write_label_map(folder: Path, rng: np.random.Generator) -> tuple[Path, NDArray[Any]]:
    """Writes a label map of a random mode or dtype. Returns its path, and the array that was written."""
    labels = rng.choice([0, 1, 2, 5, 254, 255], (3, 5)).astype(float)
    if rng.random() < 0.5:
        labels[rng.integers(3), rng.integers(5)] = rng.choice(_WRONG)
    if rng.random() < 0.5:
        dtype = np.dtype(rng.choice(("<", ">")) + rng.choice(_TIFF_DTYPES))
        limits = None if dtype.kind == "f" else np.iinfo(dtype)
        values = (
            np.nan_to_num(labels).clip(limits.min, min(limits.max, 2**31 - 1)).astype(dtype)
            if limits
            else labels.astype(dtype)
        )
        write_tiff(folder / "map.tif", values)
        return folder / "map.tif", values
    mode = str(rng.choice(_MODES))
    dtypes: dict[str, Any] = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    kind = dtypes.get(mode, np.uint8)
    values = (
        labels.astype(kind) if kind is np.float32 else np.nan_to_num(labels).clip(0, np.iinfo(kind).max).astype(kind)
    )
    if mode in ("1", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        image = Image.fromarray(values % 2 * 255 if mode == "1" else values).convert(mode)
        values = values % 2 if mode == "1" else np.asarray(image)
    elif mode == "P":
        image = Image.fromarray(values, "P")
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    else:
        image = Image.fromarray(values)
    path = folder / f"map.{'tif' if mode in ('LA', 'PA', 'CMYK', 'YCbCr', 'I', 'F') else 'png'}"
    settings: dict[str, Any] = {"transparency": int(rng.integers(256))} if mode == "P" and rng.random() < 0.5 else {}
    image.save(path, **settings)
    return path, values


def check_label_map(folder: Path, seed: int) -> None:
    path, values = write_label_map(folder, np.random.default_rng(seed))
    load = TRANSFORMS.build({"type": "LoadAnnotations", "with_seg": True})
    if values.dtype == np.int8:
        values = values.view(np.uint8)  # as in MMSegmentation: -1 becomes the ignored label
    with np.errstate(invalid="ignore"):
        wrong = values[~((values >= 0) & (values <= 255) & (values == np.floor(values)))]
    is_unknown = path.suffix == ".tif" and values.dtype in (np.dtype("<f8"), np.dtype(">f8"), np.dtype(">u4"))
    if values.ndim == 2 and not wrong.size and not is_unknown:  # to Pillow
        assert np.array_equal(load({"seg_map_path": str(path)})["gt_seg_map"], values), (seed, values.dtype)
        return
    with pytest.raises(DataError) as caught:
        load({"seg_map_path": str(path)})
    if is_unknown:
        expected = "cannot be read: its format is unknown"
    else:
        expected = "must have one channel" if values.ndim == 3 else f"contains {wrong[0]}"
    assert f"label map '{path}' {expected}" in str(caught.value)


def test_labels_are_exact_or_reported_with_file_and_value(tmp_path: Path) -> None:
    for seed in range(60):
        check_label_map(tmp_path, seed)
