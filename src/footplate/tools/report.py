"""Writes a report as an HTML page with embedded images."""

import base64
import html
import io
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from itertools import chain
from string import Template
from typing import Any

from PIL import Image

from footplate.messages import printable
from footplate.records import LAYOUT_TEXT
from footplate.storage import commit_bytes
from footplate.tools.analysis import describe_runs
from footplate.tools.json_values import as_json
from footplate.tools.report_curves import arrange_charts, class_history, clock_of
from footplate.tools.run_facts import Data
from footplate.tools.runs import Run, RunImage

_logger = logging.getLogger("footplate.tools")
_MAX_IMAGES = 160
_SCRIPTS = ("basics", "chart", "overview", "sections", "classes", "texts", "page")
_MAX_FRAMES = 24
_WORST = "worst_"  # the start of the names of the worst images
_MAX_SIDE = 1024  # pixels of an image with one panel; several panels share the width
_MIN_SIDE = 320  # pixels of a panel
_QUALITY = 80


def write_report(runs: Sequence[Run], path: str) -> int:
    """Writes a report on runs to a self-contained HTML file that works offline.

    Args:
        runs: The runs. Several variants are compared. The best variant is shown first.
        path: The path of the file.

    Returns:
        The size of the file in bytes.
    """
    runs, facts = describe_runs(runs)
    title = " vs. ".join(variant["name"] for variant in facts["variants"])
    images, unread = embed_images(runs, _MAX_IMAGES)
    for line in chain.from_iterable(unread):
        _logger.warning("%s", line)
    for described, run, lines in zip(facts["runs"], runs, unread, strict=True):
        described |= {
            "clock": clock_of(run),
            "data": run.training_data,
            "environment": run.environment,
            "warnings": [*run.warnings, *lines],
            "config": run.explained or (run.config.pretty_text if run.config is not None else ""),
        }
    data = {
        **facts,
        **images,
        "title": title,
        "charts": arrange_charts(runs, facts["headline"], [variant["counted"] for variant in facts["variants"]]),
        "classes": class_history(runs, [run["metric"] and run["metric"]["iteration"] for run in facts["runs"]]),
    }
    # JSON in a script element must not contain `<!--`, `<script` or `</script`.
    script_data = json.dumps(as_json(data, printable), separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        script_data = script_data.replace(character, f"\\u{ord(character):04x}")
    page = Template(_asset("page.html")).substitute(
        title=html.escape(printable(title)),
        style=_asset("page.css"),
        script="\n".join(_asset(f"{name}.js") for name in _SCRIPTS),
        data=script_data,
    )
    content = page.encode()
    commit_bytes(path, content)
    return len(content)


def _asset(name: str) -> str:
    return (files("footplate.tools") / "report_assets" / name).read_text(encoding="utf-8")


def embed_images(runs: Sequence[Run], maximum: int) -> tuple[Data, list[list[str]]]:
    """Returns at most `maximum` images of runs as data URIs, and messages about the unreadable images of each run.

    Each kind of image, such as `val`, gets the same maximum number of evenly spaced steps, including the last one. All
    images of a step are embedded, so that a report can show what a validation drew. Of the worst images, those of the
    last step are embedded.

    Returns:
        The messages, and before them a dict with these keys:

        - `images`: one `{"run": number, "kind": ..., "name": ..., "frames": [...]}` per run and name. A frame contains
          its `step`, its `title` and the `path` of the original image (each may be ""), a `legend` with labels and CSS
          colors, and `panels`. Each panel has a caption and an index into `sources`.
        - `sources`: the data URIs. Identical panels share one.
        - `imagesLeftOut`: the number of images omitted to limit the size of the page.
    """
    groups: dict[tuple[int, str], dict[int, list[RunImage]]] = {}
    for number, run in enumerate(runs):
        for image in run.images:
            is_worst = image.name.startswith(_WORST)
            kind = image.name.rpartition("_")[0] if is_worst else image.name.partition("_")[0]
            groups.setdefault((number, kind), {}).setdefault(image.step, []).append(image)
    for (_, kind), steps in groups.items():
        for step in sorted(steps)[:-1] if kind.startswith(_WORST) else ():
            del steps[step]
    for count in range(_MAX_FRAMES, 0, -1):
        shown = []
        for group, steps in groups.items():
            places = (-1 - part * (len(steps) - 1) // max(count - 1, 1) for part in range(count))
            shown += [
                (group, image) for step in sorted({sorted(steps)[place] for place in places}) for image in steps[step]
            ]
        if len(shown) <= maximum:
            break
    left_out = sum(len(images) for steps in groups.values() for images in steps.values()) - len(shown[:maximum])
    entries: dict[tuple[int, str], dict[str, Any]] = {}
    unread = list[list[str]]([] for _ in runs)
    sources: dict[str, int] = {}  # maps each data URI to its index
    for (number, kind), image in shown[:maximum]:
        try:
            frame = {"step": image.step, **_read(image, sources)}
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # raised by Pillow
            unread[number].append(f"the image {image.path} cannot be read: {error}")
            continue
        entry = {"run": number, "kind": kind, "name": image.name, "frames": []}
        entries.setdefault((number, image.name), entry)["frames"].append(frame)
    return {"images": list(entries.values()), "sources": list(sources), "imagesLeftOut": left_out}, unread


def _read(image: RunImage, sources: dict[str, int]) -> dict[str, Any]:
    """Returns the panels, the legend, the title and the path of an image, and adds its data URIs to `sources`."""
    # Open only PNG, because Pillow passes some formats to external programs, such as PostScript to Ghostscript.
    with Image.open(image.path, formats=("PNG",)) as opened:
        pixels, layout = opened.convert("RGB"), opened.info.get(LAYOUT_TEXT)
    boxes: list[Any] = [["", 0, 0, *pixels.size]]
    legend: list[Any] = []
    origin = {"title": "", "path": ""}
    with suppress(TypeError, ValueError, KeyError, RecursionError):  # without a valid layout, there is one panel
        recorded = json.loads(layout)
        colors = [
            {"label": str(label), "color": f"rgb({int(red)} {int(green)} {int(blue)})"}
            for label, red, green, blue in recorded["legend"]
        ]
        boxes, legend, origin = recorded["panels"], colors, {key: str(recorded.get(key, "")) for key in origin}
    panels, side = [], max(_MAX_SIDE // len(boxes), _MIN_SIDE)
    for caption, *box in boxes:
        panel, out = pixels.crop(box), io.BytesIO()
        panel.thumbnail((side, side))
        panel.save(out, "WEBP", quality=_QUALITY)
        source = f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
        panels.append({"caption": caption, "src": sources.setdefault(source, len(sources))})
    return {"panels": panels, "legend": legend, **origin}
