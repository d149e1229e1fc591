"""Writes LitData chunks for tests, with the library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.data.shards import png


def numbered(number: int) -> dict[str, Any]:
    """Returns a sample with an image of its number, and with its number as class."""
    return {"image": png(number), "label": number}


def write_chunks(folder: Path, count: int, chunk_size: int, make: Callable[[int], Any] = numbered) -> Path:
    """Writes chunks of samples, and returns their folder."""
    from litdata.streaming.cache import Cache  # type: ignore[import-not-found, unused-ignore]

    folder.mkdir(parents=True)
    cache = Cache(str(folder), chunk_size=chunk_size)
    for number in range(count):
        cache[number] = make(number)
    cache.done()
    cache.merge()
    return folder
