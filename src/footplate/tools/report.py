"""Writes the HTML page of a report."""

import base64
import html
import io
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import zip_longest
from string import Template
from typing import Any, NamedTuple

from PIL import Image

from footplate.messages import printable
from footplate.storage import commit_bytes
from footplate.tools.analysis import summarize
from footplate.tools.diff import compare, describe
from footplate.tools.runs import Point, Run, RunImage

_logger = logging.getLogger("footplate.tools")
_MOST_POINTS = 4000  # per curve
_MAX_IMAGE_BYTES = 1_600_000
_UNPLOTTED = frozenset({"memory"})
_LAST = ("lr", "momentum", "time", "data_time", "memory", "grad_norm")


def write_report(runs: Sequence[Run], path: str, *, names: Sequence[str] = (), title: str = "") -> int:
    """Writes runs to a self-contained HTML file, which works offline.

    Args:
        runs: The runs; several are compared side by side.
        path: The path of the file.
        names: The names of the runs. The default is their folder names.
        title: The title of the page. The default is the names of the runs.

    Returns:
        The size of the file in bytes.
    """
    names = list(names) or _distinct_names(runs)
    images = embed_images(runs, _MAX_IMAGE_BYTES)
    for line in (line for lines in images.unread.values() for line in lines):
        _logger.warning("%s", line)
    data = {
        "runs": [
            {
                "name": names[place],
                "summary": summarize(run),
                "config": run.explained or (run.config.pretty_text if run.config is not None else ""),
                "environment": run.environment,
                "warnings": [*run.warnings, *images.unread.get(place, [])],
                "perClass": [table._asdict() for table in run.per_class],
            }
            for place, run in enumerate(runs)
        ],
        "charts": list(_charts(runs)),
        "images": images.found,
        "imagesLeftOut": images.left_out,
        "differences": [
            {
                "name": f"{names[0]} and {name}",
                "text": describe(compare(runs[0].config, run.config)) or "no difference\n",
            }
            for name, run in zip(names[1:], runs[1:], strict=True)
            if runs[0].config is not None and run.config is not None
        ],
    }
    # JSON in a script element must not contain `<!--`, `<script` or `</script`.
    script_data = json.dumps(_as_json(data), separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        script_data = script_data.replace(character, f"\\u{ord(character):04x}")
    page = Template(_asset("page.html")).substitute(
        title=html.escape(printable("footplate: " + (title or ", ".join(names)))),
        style=_asset("uplot.min.css") + _asset("page.css"),
        charts=_asset("uplot.min.js"),
        script=_asset("page.js"),
        data=script_data,
    )
    written = page.encode()
    commit_bytes(path, written)
    return len(written)


def _asset(name: str) -> str:
    return (files("footplate.tools") / "report_assets" / name).read_text(encoding="utf-8")


def _distinct_names(runs: Sequence[Run]) -> list[str]:
    """Returns the folder names, with as many parent folders as needed to make them distinct."""
    paths = [run.folder.resolve() for run in runs]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names


def _charts(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Yields a chart per scalar, losses and metrics first, with the curves of all runs that have it."""
    keys = dict.fromkeys((series.mode, series.name) for run in runs for series in run.series)
    ordered = sorted(keys, key=lambda key: (key[1] in _LAST, "loss" not in key[1] and key[0] == "train"))
    for mode, name in ordered:
        if name in _UNPLOTTED:
            continue
        curves = []
        for number, run in enumerate(runs):
            series = run.find(name, mode)
            if series is not None:
                points = _thinned(series.points)
                curve = {"run": number, "x": [_short(x) for x, _ in points], "y": [_short(y) for _, y in points]}
                curves.append({**curve, "thinned": len(points) < len(series.points)})
        yield {"name": name, "mode": mode, "curves": curves}


def _thinned(points: list[Point]) -> list[Point]:
    """Keeps the minimum and maximum of each stretch of points, so that no peak is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    stretch = math.ceil(len(points) / (_MOST_POINTS // 2))
    kept: list[Point] = []
    for begin in range(0, len(points), stretch):
        part = points[begin : begin + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _short(value: float) -> float:
    if not math.isfinite(value):
        return value
    return float(f"{value:.6g}") if value != int(value) else int(value)


def _as_json(value: Any) -> Any:
    """Replaces non-finite numbers with None, because JSON cannot represent them, and escapes unprintable characters."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): _as_json(each) for key, each in value.items()}
    return [_as_json(each) for each in value] if isinstance(value, (list, tuple)) else value


_MOST_FRAMES = 24
_LONGEST_SIDE = 640
_QUALITY = 82
_MOST_PIXELS = 50_000_000


class Embedded(NamedTuple):
    """The images of a page."""

    # `{"run": number, "name": ..., "frames": [{"step": ..., "src": ...}]}` for each name, `src` a data URI
    found: list[dict[str, Any]]
    left_out: int  # the number of names that were left out to limit the size of the page
    unread: dict[int, list[str]]  # messages about images that cannot be read, by the number of the run


def embed_images(runs: Sequence[Run], budget: int) -> Embedded:
    """Returns the images of runs as data URIs, by name and step.

    Args:
        runs: The runs.
        budget: The maximum size of all data URIs in characters.
    """
    embedded = Embedded([], 0, {})
    left_out = used = 0
    # Alternates between runs, so that a small budget shows each of them.
    names = (dict.fromkeys((number, image.name) for image in run.images) for number, run in enumerate(runs))
    for key in (key for keys in zip_longest(*names) for key in keys if key is not None):
        number, name = key
        images = [image for image in runs[number].images if image.name == name]
        if len(images) > _MOST_FRAMES:  # evenly spaced, with the first and the last
            last = len(images) - 1
            images = [images[round(part * last / (_MOST_FRAMES - 1))] for part in range(_MOST_FRAMES)]
        frames: list[dict[str, Any]] = []
        for image in images:
            try:
                frames.append({"step": image.step, "src": _as_uri(image)})
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # errors of Pillow
                embedded.unread.setdefault(number, []).append(f"the image {image.path} cannot be read: {error}")
        size = sum(len(frame["src"]) for frame in frames)
        if used + size > budget:
            left_out += 1
        elif frames:
            used += size
            embedded.found.append({"run": number, "name": name, "frames": frames})
    return embedded._replace(left_out=left_out)


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
