"""Embeds the images of runs in the page of a report."""

import base64
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, NamedTuple

from PIL import Image

from footplate.records import LAYOUT_TEXT
from footplate.tools.runs import Run, RunImage

_MOST_FRAMES = 24
_MOST_PANELS = 16
_LONGEST_SIDE = 1024  # pixels of an image with several panels
_QUALITY = 80
_MOST_PIXELS = 50_000_000


class Embedded(NamedTuple):
    """The images that are embedded in a page."""

    # For each name `{"run": number, "name": ..., "frames": [...]}`. A frame contains its `step`, a `legend` with labels
    # and CSS colors, and `panels`, each with its caption and its index in `sources`.
    found: list[dict[str, Any]]
    sources: list[str]  # data URIs; identical panels share one
    left_out: int  # the number of names that were omitted to limit the size of the page
    unread: dict[int, list[str]]  # maps the number of a run to messages about its unreadable images


def embed_images(runs: Sequence[Run], budget: int) -> Embedded:
    """Returns the images of runs as data URIs, by name and step.

    Several images with few steps are more useful than one image with many steps. Therefore, the latest step of each
    image is embedded first, and the remaining budget is used for earlier steps.

    Args:
        runs: The runs.
        budget: The maximum size of all data URIs in characters.
    """
    embedded = Embedded([], [], 0, {})
    sources: dict[str, int] = {}  # maps each data URI to its index
    # Alternate between runs, so that a small budget covers each of them.
    names = (dict.fromkeys((number, image.name) for image in run.images) for number, run in enumerate(runs))
    keys = [key for keys in zip_longest(*names) for key in keys if key is not None]
    left_out = 0
    shown: list[tuple[dict[str, Any], list[RunImage]]] = []
    for number, name in keys:
        images = [image for image in runs[number].images if image.name == name]
        frames = _frames(images[-1:], embedded, number)
        if not _add(frames, sources, budget):
            left_out += 1
            continue
        shown.append(({"run": number, "name": name, "frames": frames}, images[:-1]))
    # Add the same number of earlier steps for each image, so that all can be shown at the same step.
    used = sum(map(len, sources))
    count = min(_MOST_FRAMES - 1, (budget - used) // max(used, 1))
    for entry, earlier in shown:
        frames = _frames(_spread(earlier, count), embedded, entry["run"])
        if _add(frames, sources, budget):
            entry["frames"] = frames + entry["frames"]
        if entry["frames"]:
            embedded.found.append(entry)
    return embedded._replace(sources=list(sources), left_out=left_out)


def _add(frames: Sequence[dict[str, Any]], sources: dict[str, int], budget: int) -> bool:
    """Replaces data URIs in frames with their indices in `sources`. Returns False if they exceed the budget."""
    panels = [panel for frame in frames for panel in frame["panels"]]
    new = {panel["src"] for panel in panels} - sources.keys()
    if sum(map(len, new)) + sum(map(len, sources)) > budget:
        return False
    for panel in panels:
        panel["src"] = sources.setdefault(panel["src"], len(sources))
    return True


def _spread(images: list[RunImage], count: int) -> list[RunImage]:
    """Returns at most `count` evenly spaced images, including the first one."""
    if len(images) <= count:
        return images
    return [images[part * len(images) // count] for part in range(count)]


def _frames(images: Sequence[RunImage], embedded: Embedded, number: int) -> list[dict[str, Any]]:
    frames = []
    for image in images:
        try:
            frames.append({"step": image.step, **_read(image)})
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # errors of Pillow
            embedded.unread.setdefault(number, []).append(f"the image {image.path} cannot be read: {error}")
    return frames


def _read(image: RunImage) -> dict[str, Any]:
    # Pillow would pass some formats to external programs, such as PostScript to Ghostscript, so only PNG is opened.
    with Image.open(image.path, formats=("PNG",)) as opened:
        if opened.width * opened.height > _MOST_PIXELS:
            raise ValueError(f"it has {opened.width} x {opened.height} pixels, more than the limit of {_MOST_PIXELS:,}")
        pixels, layout = opened.convert("RGB"), opened.info.get(LAYOUT_TEXT)
    boxes, legend = _layout(layout, pixels.size)
    panels = []
    for caption, box in boxes:
        panel, out = pixels.crop(box), io.BytesIO()
        panel.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        panel.save(out, "WEBP", quality=_QUALITY)
        panels.append(
            {"caption": caption, "src": f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"}
        )
    return {
        "panels": panels,
        "legend": [{"label": label, "color": f"rgb({red} {green} {blue})"} for label, red, green, blue in legend],
    }


def _layout(text: Any, size: tuple[int, int]) -> tuple[list[tuple[str, tuple[int, int, int, int]]], list[Any]]:
    """Returns the captions with their boxes, and the legend, from the layout in a file.

    If there is no valid layout, the whole image is the only box.
    """
    with suppress(TypeError, ValueError, KeyError, OverflowError, RecursionError):
        layout = json.loads(text)
        panels = [(str(caption), (int(a), int(b), int(c), int(d))) for caption, a, b, c, d in layout["panels"]]
        legend = [(str(label), int(red), int(green), int(blue)) for label, red, green, blue in layout["legend"]]
        inside = all(0 <= a < c <= size[0] and 0 <= b < d <= size[1] for _, (a, b, c, d) in panels)
        if inside and 0 < len(panels) <= _MOST_PANELS:
            return panels, legend
    return [("", (0, 0, *size))], []
