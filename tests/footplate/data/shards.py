"""Writes tar files with numbered images for tests."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

Sample = tuple[str, Mapping[str, bytes]]


def png(number: int, size: tuple[int, int] = (4, 6)) -> bytes:
    """Returns a gray image ``(H, W)`` whose first two pixels contain a number below 65536."""
    pixels = np.zeros(size, np.uint8)
    pixels[0, :2] = divmod(number, 256)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tar(samples: Iterable[Sample]) -> bytes:
    """Returns the bytes of a shard; each sample has a key, and contents by extension."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for key, files in samples:
            for extension, content in files.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def numbered(numbers: Iterable[int]) -> list[Sample]:
    """Returns samples with an image of their number, and with their number as class."""
    return [(f"{number:05d}", {"png": png(number), "cls": str(number).encode()}) for number in numbers]


def write_shards(folder: Path, sizes: Iterable[int]) -> list[Path]:
    """Writes shards of numbered samples, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, begin = [], 0
    for index, size in enumerate(sizes):
        paths.append(folder / f"train-{index:03d}.tar")
        paths[-1].write_bytes(tar(numbered(range(begin, begin + size))))
        begin += size
    return paths
