"""Draws curves as PNG files, using only Pillow, and arranges their panels."""

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from footplate.errors import ArgumentError, DataError
from footplate.messages import printable
from footplate.records.message_hub import metric_of_label
from footplate.storage import commit_image
from footplate.visualization.drawing import RGB, ImageArray, text_font

_INK, _PAPER = (50, 50, 50), (255, 255, 255)
_MARGIN = 10
_SMALLEST_PANEL = 256


class LegendEntry(NamedTuple):
    """A color and its meaning."""

    color: RGB
    label: str


class PanelImage(np.ndarray[Any, np.dtype[np.uint8]]):
    """An image of several panels. LocalVisBackend writes the layout into the file, so that reports can split the image.

    Attributes:
        layout: A dict with the caption and the box x1 y1 x2 y2 of each of the `panels`, and the labels and colors of
            the `legend`.
    """

    layout: dict[str, Any]


def arrange_panels(panels: Mapping[str, ImageArray], legend: Sequence[LegendEntry] = ()) -> PanelImage:
    """Arranges images of the same size side by side, with captions above and a legend below.

    Small images are enlarged by an integer factor without smoothing, so that captions are readable.

    Args:
        panels: Maps captions to RGB images ``(H, W, 3)``, uint8.
        legend: The colors and their meanings.

    Returns:
        An RGB image ``(H', W', 3)``, uint8.

    Raises:
        ArgumentError: There are no images, or their sizes differ.
    """
    shapes = {image.shape for image in panels.values()}
    if len(shapes) != 1:
        raise ArgumentError("panels must be images of the same size", key="panels", found=sorted(shapes))
    height, width = shapes.pop()[:2]
    zoom = max(1, -(-_SMALLEST_PANEL // max(height, width)))
    height, width = zoom * height, zoom * width
    size = max(12, width // 20)
    caption = size + _MARGIN
    page_width = len(panels) * (width + _MARGIN) + _MARGIN
    line_height = round(1.6 * size)
    entries: list[tuple[int, int, LegendEntry]] = []  # left edge, row and entry
    left, row = page_width, -1
    for entry in legend:
        entry_width = round(size * 2.2 + text_font(size).getlength(entry.label))
        if left + entry_width > page_width - _MARGIN:
            left, row = _MARGIN, row + 1
        entries.append((left, row, entry))
        left += entry_width
    legend_top = 2 * _MARGIN + caption + height
    page_height = legend_top + ((row + 1) * line_height + _MARGIN if entries else 0)
    page = Image.new("RGB", (page_width, page_height), _PAPER)
    draw = ImageDraw.Draw(page)
    boxes = []
    for number, (label, image) in enumerate(panels.items()):
        left = _MARGIN + number * (width + _MARGIN)
        boxes.append([label, left, _MARGIN + caption, left + width, _MARGIN + caption + height])
        draw.text((left + width / 2, _MARGIN + size / 2), label, fill=_INK, font=text_font(size), anchor="mm")
        page.paste(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST), (left, _MARGIN + caption))
    for left, row, entry in entries:
        y = legend_top + row * line_height
        draw.rectangle((left, y, left + size, y + size), fill=entry.color, outline=_INK)
        draw.text((left + 1.4 * size, y + size / 2), entry.label, fill=_INK, font=text_font(size), anchor="lm")
    arranged = np.array(page).view(PanelImage)
    arranged.layout = {"panels": boxes, "legend": [[entry.label, *entry.color] for entry in legend]}
    return arranged


_UNPLOTTED = frozenset({"step", "iter", "epoch", "time", "data_time", "memory", "eta"})
_MOST_CURVES = 8
_LONGEST_NOTE = 56  # characters that fit next to a title
_OF_CLASS = re.compile(r"(?P<quantity>[^.]+)\.(?P<name>.+)|(?P<class>.+)_(?P<measure>precision)")  # `IoU.bag`
_Scalars = Sequence[Mapping[str, Any]]

_ZOOM = 2  # plots are drawn at this size and scaled down for smooth lines
_WIDTH = 880
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 150, 34, 14
_AXIS_HEIGHT = 46
_HEIGHT, _SMALL_HEIGHT = 250, 110
_MOST = sys.float_info.max
_LONGEST_TEXT = 200  # characters of a label
_GRID, _FRAME = (226, 226, 226), (170, 170, 170)
# Okabe and Ito's palette for color-blind readers.
_COLORS: tuple[RGB, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (110, 110, 110),
    (150, 120, 20),
)


class Curve(NamedTuple):
    """A label and points (x, y), in ascending order of x."""

    label: str
    points: list[tuple[float, float]]


class Panel(NamedTuple):
    """Curves with a common vertical axis. The note is shown to the right of the title."""

    title: str
    curves: list[Curve]
    small: bool = False
    note: str = ""


def find_duplicates(curves: Mapping[str, Sequence[tuple[float, ...]]]) -> dict[str, str]:
    """Maps the name of each curve that equals an earlier curve to the name of the earlier curve.

    For example, if a loss has only one term, the term equals the loss. Constant curves do not count as duplicates,
    because they may be equal by chance.

    Args:
        curves: Maps names to the points of a curve. The last coordinate of a point is its value.

    >>> find_duplicates({"loss": [(1, 0.5), (2, 0.4)], "loss_ce": [(1, 0.5), (2, 0.4)], "acc": [(1, 0.4), (2, 0.5)]})
    {'loss_ce': 'loss'}
    """
    varying = {name: points for name, points in curves.items() if len({point[-1] for point in points}) > 1}
    originals: dict[tuple[tuple[float, ...], ...], str] = {}
    firsts = {name: originals.setdefault(tuple(points), name) for name, points in varying.items()}
    return {name: first for name, first in firsts.items() if name != first}


def _without_duplicates(curves: Sequence[Curve]) -> list[Curve]:
    """Removes duplicate curves. Of equal curves, only the total `loss` or, if it differs, the first one remains."""
    ordered = sorted(curves, key=lambda curve: curve.label != "loss")
    repeated = find_duplicates({curve.label: curve.points for curve in ordered})
    return [curve for curve in curves if curve.label not in repeated]


def draw_curves(scalars_path: str, out_path: str, *, epoch_length: int = 1) -> None:
    """Plots losses, metrics and learning rate as an image file. Skips an incomplete last line.

    Args:
        scalars_path: A file with one JSON object per line, such as `vis_data/scalars.json`.
        out_path: The path of the image.
        epoch_length: The number of iterations per validation step: the length of an epoch if validations are logged by
            epoch, otherwise 1.

    Raises:
        DataError: The file has no scalars to draw.
    """
    with open(scalars_path, encoding="utf-8") as file:
        lines = [line for line in file if line.strip()]
    scalars: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            parsed = json.loads(line)
            if not isinstance(parsed, dict):
                raise ValueError
        except ValueError as error:
            if 1 < number == len(lines) and not line.endswith("\n"):
                break  # the process was killed while writing
            name = os.path.basename(scalars_path)
            raise DataError(f"'{name}' must have one JSON object per line", found=scalars_path) from error
        scalars.append(parsed)
    # Only training lines contain the learning rate; all others are from validations.
    training = [line for line in scalars if "lr" in line]
    validation = [{**line, "step": line.get("step", 0) * epoch_length} for line in scalars if "lr" not in line]
    curves = _curves(training)
    losses = [curve for curve in curves if "loss" in curve.label]
    norms = [curve for curve in curves if curve.label.partition("/")[0] == "grad_norm"]
    others = [curve for curve in curves if curve not in losses + norms and curve.label not in ("lr", "base_lr")]
    panels = [
        _panel("loss", _without_duplicates(losses)),
        *_panels_by_scale("training", others),
        *_validation_panels(_curves(validation)),
        _panel("gradient norm", norms, small=True),
        Panel("learning rate", _curves(training, names=["lr"]), small=True),
    ]
    panels = [panel for panel in panels if panel.curves]
    if not panels:
        raise DataError("there are no scalars to draw", found=scalars_path)
    commit_image(out_path, plot(panels, "iteration" if any("iter" in line for line in training) else "step"))


def _curves(lines: _Scalars, names: Iterable[str] | None = None) -> list[Curve]:
    """Returns one curve per name, in the order of first appearance. x is the `step` of each log line."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for name, value in line.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if is_number and name.rpartition("/")[2] not in _UNPLOTTED and (names is None or name in names):
                curves.setdefault(name, []).append((float(line.get("step", 0)), float(value)))
    return [Curve(name, points) for name, points in curves.items()]


def _validation_panels(curves: list[Curve]) -> Iterator[Panel]:
    """Yields the panels of each validation set: summary metrics, losses, and the classes with the lowest values."""
    sets: dict[str, list[Curve]] = {}  # by the text before the first slash: a name or a metric prefix
    for curve in curves:
        label = metric_of_label(curve.label)
        prefix, slash, _ = label.partition(".")[0].partition("/")  # class names may contain slashes
        sets.setdefault(f"validation: {prefix}" if slash else "validation", []).append(curve._replace(label=label))
    for title, metrics in sets.items():
        losses, summaries, classes = [], [], dict[str, list[Curve]]()
        for curve in metrics:
            if "loss" in curve.label:
                losses.append(curve)
            elif (found := _OF_CLASS.fullmatch(curve.label)) is None:
                summaries.append(curve)
            else:
                quantity = found["quantity"] or found["measure"]
                classes.setdefault(quantity, []).append(curve._replace(label=found["name"] or found["class"]))
        yield from _panels_by_scale(title, _without_duplicates(summaries))
        yield _panel(f"{title}: loss", _without_duplicates(losses))
        if classes:
            (quantity, shown), *others = classes.items()
            weakest = sorted(shown, key=lambda curve: curve.points[-1][1])
            which = "the weakest classes" if len(weakest) > _MOST_CURVES else "classes"
            omitted = [f"{name} of classes" for name, _ in others]
            yield _panel(f"{title}: {quantity.rpartition('/')[2]} of {which}", weakest, omitted=omitted)


def _panels_by_scale(title: str, curves: list[Curve]) -> list[Panel]:
    """Returns one panel per scale, so that fractions, percentages and larger values are separate."""
    groups: dict[str, list[Curve]] = {"up to 100": [], "up to 1": [], "above 100": []}
    for curve in curves:
        most = max(abs(y) for _, y in curve.points)
        groups["up to 1" if most <= 1 else "up to 100" if most <= 100 else "above 100"].append(curve)
    several = sum(map(bool, groups.values())) > 1
    return [_panel(f"{title}, {scale}" if several else title, group) for scale, group in groups.items()]


def _panel(title: str, curves: list[Curve], *, small: bool = False, omitted: Sequence[str] = ()) -> Panel:
    """Returns a panel with the first curves and a note that lists the others.

    A total comes before its parts, such as `loss` before `decode.loss_ce` and `aux.loss_ce`.
    """
    ordered = sorted(curves, key=lambda curve: (curve.label != "loss", "loss" in curve.label and "." in curve.label))
    omitted = [*(curve.label for curve in ordered[_MOST_CURVES:]), *omitted]
    listed: list[str] = []
    for name in omitted:
        if listed and len(", ".join([*listed, name])) > _LONGEST_NOTE:
            break
        listed.append(name if len(name) <= _LONGEST_NOTE else f"{name[:_LONGEST_NOTE]}…")
    more = f" and {len(omitted) - len(listed)} more" if len(omitted) > len(listed) else ""
    note = f"not drawn: {', '.join(listed)}{more}" if listed else ""
    count = f" ({_MOST_CURVES} of {len(curves)})" if len(curves) > _MOST_CURVES else ""
    return Panel(title + count, ordered[:_MOST_CURVES], small, note)


def plot(panels: Sequence[Panel], x_label: str) -> Image.Image:
    """Draws panels below each other, with a common horizontal axis."""
    heights = [_SMALL_HEIGHT if panel.small else _HEIGHT for panel in panels]
    size = (_WIDTH, sum(heights) + len(panels) * _BOTTOM + _AXIS_HEIGHT)
    page = Image.new("RGB", (size[0] * _ZOOM, size[1] * _ZOOM), _PAPER)
    draw = ImageDraw.Draw(page)
    x_range = _pad_range([x for panel in panels for curve in panel.curves for x, _ in curve.points], margin=0)
    top = 0
    for panel, height in zip(panels, heights, strict=True):
        _draw_panel(draw, panel, x_range, top=top + _TOP, height=height - _TOP)
        top += height + _BOTTOM
    axis = top - _BOTTOM
    for value in round_ticks(x_range, 8):
        x = _x_position(value, x_range)
        draw.line([_zoom(x, axis), _zoom(x, axis + 5)], fill=_INK, width=_ZOOM)
        _write(draw, (x, axis + 16), f"{value:.6g}", anchor="mm")
    _write(draw, ((_LEFT + _WIDTH - _RIGHT) / 2, axis + 36), x_label, size=13, anchor="mm")
    return page.resize(size, Image.Resampling.LANCZOS)


def _draw_panel(
    draw: ImageDraw.ImageDraw, panel: Panel, x_range: tuple[float, float], *, top: int, height: int
) -> None:
    """Draws a panel. Positions are in pixels of the final image and are scaled up for drawing."""
    y_range = _pad_range([y for curve in panel.curves for _, y in curve.points])
    colors = [_COLORS[number % len(_COLORS)] for number in range(len(panel.curves))]

    def y_position(value: float) -> float:
        return top + height * (1 - _fraction(value, y_range))

    _write(draw, (_LEFT, top - 12), panel.title, size=14)
    _write(draw, (_WIDTH - 8, top - 12), panel.note, size=11, color=_COLORS[6], anchor="rm")
    for value in round_ticks(y_range, 3 if panel.small else 7):
        y = y_position(value)
        draw.line([_zoom(_LEFT, y), _zoom(_WIDTH - _RIGHT, y)], fill=_GRID, width=_ZOOM)
        _write(draw, (_LEFT - 8, y), f"{value:.6g}", anchor="rm")
    corners = [_zoom(_LEFT, top), _zoom(_WIDTH - _RIGHT, top + height)]
    draw.rectangle(corners, outline=_FRAME, width=_ZOOM)
    for curve, color in zip(panel.curves, colors, strict=True):
        points = [_zoom(_x_position(x, x_range), y_position(y)) for x, y in curve.points]
        if len(points) > 1:
            draw.line(points, fill=color, width=round(1.6 * _ZOOM), joint="curve")
        if len(points) <= 30:
            for x, y in points:
                radius = 2.6 * _ZOOM
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    # The label and the last value of each curve are drawn next to its end.
    ends = sorted((y_position(curve.points[-1][1]), number) for number, curve in enumerate(panel.curves))
    for y, number in _spread(ends, gap=15, low=top + 4, high=top + height - 2):
        curve = panel.curves[number]
        text = f"{curve.label} {curve.points[-1][1]:.4g}"
        _write(draw, (_WIDTH - _RIGHT + 8, y), text, color=colors[number])


def _x_position(value: float, x_range: tuple[float, float]) -> float:
    return _LEFT + (_WIDTH - _RIGHT - _LEFT) * _fraction(value, x_range)


def _fraction(value: float, bounds: tuple[float, float]) -> float:
    """Returns the position of a value between two bounds, from 0 to 1."""
    low, high = bounds
    if math.isinf(high - low):  # the difference overflows
        value, low, high = value / 2, low / 2, high / 2
    return (value - low) / (high - low)


def _zoom(x: float, y: float) -> tuple[float, float]:
    return x * _ZOOM, y * _ZOOM


def _write(
    draw: ImageDraw.ImageDraw,
    position: tuple[float, float],
    text: str,
    *,
    size: int = 12,
    color: RGB = _INK,
    anchor: str = "lm",
) -> None:
    line = printable(text[:_LONGEST_TEXT]).replace("\n", "\\n")
    draw.text(_zoom(*position), line, fill=color, font=text_font(size * _ZOOM), anchor=anchor)


def _pad_range(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    """Returns the range of values with a margin. The range is never empty."""
    low, high = min(values), max(values)
    padding = min(high - low, _MOST) * margin or (0.0 if high > low else abs(high) * 0.1 or 1.0)
    return max(low - padding, -_MOST), min(high + padding, _MOST)


def round_ticks(bounds: tuple[float, float], most: int) -> list[float]:
    """Returns round numbers within the bounds, in steps of 1, 2 or 5 times a power of ten."""
    low, high = bounds
    rough = max(high / most - low / most if math.isinf(high - low) else (high - low) / most, sys.float_info.min)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _spread(ends: list[tuple[float, int]], *, gap: float, low: float, high: float) -> list[tuple[float, int]]:
    """Moves labels down until each is at least `gap` below the previous one, then up if they leave the panel."""
    heights = [max(y, low) for y, _ in ends]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    for index in reversed(range(len(heights))):
        limit = high if index == len(heights) - 1 else heights[index + 1] - gap
        heights[index] = min(heights[index], limit)
    return [(y, number) for y, (_, number) in zip(heights, ends, strict=True)]
