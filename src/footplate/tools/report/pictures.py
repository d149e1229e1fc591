"""Embeds images in a report, reduced so that one page can hold them all."""

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from PIL import Image

from footplate.tools.runs import Picture, Run

_MOST_FRAMES = 24
_LONGEST_SIDE = 640
_QUALITY = 82
_MOST_PIXELS = 50_000_000


class Embedded(NamedTuple):
    """The images of a page.

    Attributes:
        found: `{"run": number, "name": ..., "frames": [{"step": ..., "src": ...}]}` for each name, `src` a data URI.
        left_out: The number of names that were left out to limit the size of the page.
        unread: Messages about images that cannot be read, by the number of the run.
    """

    found: list[dict[str, Any]]
    left_out: int
    unread: dict[int, list[str]]


def embed_pictures(runs: Sequence[Run], budget: int) -> Embedded:
    """Returns the images of runs as data URIs, by name and step.

    Args:
        runs: The runs.
        budget: The maximum size of all data URIs in characters.
    """
    embedded = Embedded([], 0, {})
    left_out = used = 0
    for number, name, pictures in _by_name(runs):
        frames: list[dict[str, Any]] = []
        for picture in _spread(pictures):
            try:
                frames.append({"step": picture.step, "src": _as_uri(picture)})
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # errors of Pillow
                embedded.unread.setdefault(number, []).append(f"the picture {picture.path} cannot be read: {error}")
        size = sum(len(frame["src"]) for frame in frames)
        if used + size > budget:
            left_out += 1
        elif frames:
            used += size
            embedded.found.append({"run": number, "name": name, "frames": frames})
    return embedded._replace(left_out=left_out)


def _by_name(runs: Sequence[Run]) -> Iterator[tuple[int, str, list[Picture]]]:
    """Yields the images by name, alternating between runs, so that a small budget shows each run."""
    names = [list(dict.fromkeys(picture.name for picture in run.pictures)) for run in runs]
    for place in range(max((len(each) for each in names), default=0)):
        for number, run in enumerate(runs):
            if place < len(names[number]):
                name = names[number][place]
                yield number, name, [picture for picture in run.pictures if picture.name == name]


def _spread(pictures: Sequence[Picture]) -> list[Picture]:
    """Returns at most `_MOST_FRAMES` evenly spaced images, including the first and the last."""
    if len(pictures) <= _MOST_FRAMES:
        return list(pictures)
    places = {round(part * (len(pictures) - 1) / (_MOST_FRAMES - 1)) for part in range(_MOST_FRAMES)}
    return [pictures[place] for place in sorted(places)]


def _as_uri(picture: Picture) -> str:
    # The suffix promises a PNG. Pillow would hand some other formats to programs, PostScript to Ghostscript.
    with Image.open(picture.path, formats=("PNG",)) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError(f"it has {image.width} x {image.height} pixels")
        small = image.convert("RGB")
        small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
