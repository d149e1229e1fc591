"""Embeds the images of runs in the page of a report."""

import base64
import io
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from PIL import Image

from footplate.tools.runs import Run, RunImage

_MOST_FRAMES = 24
_LONGEST_SIDE = 1024  # of an image with several panels
_QUALITY = 80
_MOST_PIXELS = 50_000_000


class Embedded(NamedTuple):
    """The images of a page."""

    # `{"run": number, "name": ..., "frames": [{"step": ..., "src": ...}]}` for each name, `src` a data URI
    found: list[dict[str, Any]]
    left_out: int  # the number of names that were left out to limit the size of the page
    unread: dict[int, list[str]]  # messages about images that cannot be read, by the number of the run


def embed_images(runs: Sequence[Run], budget: int) -> Embedded:
    """Returns the images of runs as data URIs, by name and step.

    Several images with few steps are more useful than one image with many steps. So the latest step of each image is
    embedded first, and the remaining budget is spent on earlier steps.

    Args:
        runs: The runs.
        budget: The maximum size of all data URIs in characters.
    """
    embedded = Embedded([], 0, {})
    # Alternates between runs, so that a small budget shows each of them.
    names = (dict.fromkeys((number, image.name) for image in run.images) for number, run in enumerate(runs))
    keys = [key for keys in zip_longest(*names) for key in keys if key is not None]
    left_out = used = 0
    shown: list[tuple[dict[str, Any], list[RunImage]]] = []
    for number, name in keys:
        images = [image for image in runs[number].images if image.name == name]
        frames = _frames(images[-1:], embedded, number)
        size = sum(len(frame["src"]) for frame in frames)
        if used + size > budget:
            left_out += 1
            continue
        used += size
        shown.append(({"run": number, "name": name, "frames": frames}, images[:-1]))
    # The same number of earlier steps for each image, so that all can be shown at the same step.
    count = min(_MOST_FRAMES - 1, int((budget - used) // max(used, 1)))
    for entry, earlier in shown:
        frames = _frames(_spread(earlier, count), embedded, entry["run"])
        size = sum(len(frame["src"]) for frame in frames)
        if used + size <= budget:
            used += size
            entry["frames"] = frames + entry["frames"]
        if entry["frames"]:
            embedded.found.append(entry)
    return embedded._replace(left_out=left_out)


def _spread(images: list[RunImage], count: int) -> list[RunImage]:
    """Returns at most `count` evenly spaced images, the first one included."""
    if len(images) <= count:
        return images
    return [images[part * len(images) // count] for part in range(count)]


def _frames(images: Sequence[RunImage], embedded: Embedded, number: int) -> list[dict[str, Any]]:
    frames = []
    for image in images:
        try:
            frames.append({"step": image.step, "src": _as_uri(image)})
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # errors of Pillow
            embedded.unread.setdefault(number, []).append(f"the image {image.path} cannot be read: {error}")
    return frames


def _as_uri(image: RunImage) -> str:
    # The suffix promises a PNG. Pillow would hand some other formats to programs, PostScript to Ghostscript.
    with Image.open(image.path, formats=("PNG",)) as opened:
        if opened.width * opened.height > _MOST_PIXELS:
            raise ValueError(f"it has {opened.width} x {opened.height} pixels")
        small = opened.convert("RGB")
        small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
