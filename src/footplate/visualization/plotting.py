"""Line plots with Pillow: panels below each other, drawn at double size and scaled down for smooth lines."""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from footplate.messages import printable
from footplate.visualization.colors import RGB
from footplate.visualization.drawing import text_font

_ZOOM = 2
_WIDTH = 880
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 150, 34, 14
_AXIS_HEIGHT = 46
_HEIGHT, _SMALL_HEIGHT = 250, 110
_MOST = sys.float_info.max
_LONGEST_TEXT = 200  # characters of a label
_INK, _FAINT, _PAPER = (50, 50, 50), (226, 226, 226), (255, 255, 255)
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
    """Curves with a common vertical axis; the note is shown to the right of the title."""

    title: str
    curves: list[Curve]
    small: bool = False
    note: str = ""


def plot(panels: Sequence[Panel], x_label: str) -> Image.Image:
    """Draws panels below each other, with a common horizontal axis."""
    heights = [_SMALL_HEIGHT if panel.small else _HEIGHT for panel in panels]
    size = (_WIDTH, sum(heights) + len(panels) * _BOTTOM + _AXIS_HEIGHT)
    page = Image.new("RGB", (size[0] * _ZOOM, size[1] * _ZOOM), _PAPER)
    draw = ImageDraw.Draw(page)
    x_range = _padded([x for panel in panels for curve in panel.curves for x, _ in curve.points], margin=0)
    top = 0
    for panel, height in zip(panels, heights, strict=True):
        _PanelPainter(draw, panel, x_range, top=top + _TOP, height=height - _TOP).paint()
        top += height + _BOTTOM
    _draw_x_axis(draw, x_range, top, x_label)
    return page.resize(size, Image.Resampling.LANCZOS)


class _PanelPainter:
    """Draws one panel; positions are in pixels of the final image and are scaled up when drawn."""

    def __init__(
        self, draw: ImageDraw.ImageDraw, panel: Panel, x_range: tuple[float, float], *, top: int, height: int
    ) -> None:
        self.draw, self.panel, self.x_range, self.top, self.height = draw, panel, x_range, top, height
        self.y_range = _padded([y for curve in panel.curves for _, y in curve.points])

    def paint(self) -> None:
        _write(self.draw, (_LEFT, self.top - 12), self.panel.title, size=14, anchor="lm")
        _write(self.draw, (_WIDTH - 8, self.top - 12), self.panel.note, size=11, color=_COLORS[6], anchor="rm")
        self._draw_grid()
        for number, curve in enumerate(self.panel.curves):
            self._draw_curve(curve, _COLORS[number % len(_COLORS)])
        self._draw_labels()

    def _draw_grid(self) -> None:
        for value in round_ticks(self.y_range, 3 if self.panel.small else 7):
            y = self._y(value)
            self.draw.line([_zoomed(_LEFT, y), _zoomed(_WIDTH - _RIGHT, y)], fill=_FAINT, width=_ZOOM)
            _write(self.draw, (_LEFT - 8, y), f"{value:.6g}", anchor="rm")
        corner = (_zoomed(_LEFT, self.top), _zoomed(_WIDTH - _RIGHT, self.top + self.height))
        self.draw.rectangle([*corner], outline=(170, 170, 170), width=_ZOOM)

    def _draw_curve(self, curve: Curve, color: RGB) -> None:
        points = [_zoomed(_x(x, self.x_range), self._y(y)) for x, y in curve.points]
        if len(points) > 1:
            self.draw.line(points, fill=color, width=round(1.6 * _ZOOM), joint="curve")
        if len(points) <= 30:
            for x, y in points:
                radius = 2.6 * _ZOOM
                self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    def _draw_labels(self) -> None:
        """Writes each curve's label and last value next to its end; moves labels apart if they would overlap."""
        ends = [(self._y(curve.points[-1][1]), number) for number, curve in enumerate(self.panel.curves)]
        spots = _spread(sorted(ends), gap=15, low=self.top + 4, high=self.top + self.height - 2)
        for y, number in spots:
            curve = self.panel.curves[number]
            text = f"{curve.label} {curve.points[-1][1]:.4g}"
            _write(self.draw, (_WIDTH - _RIGHT + 8, y), text, color=_COLORS[number % len(_COLORS)])

    def _y(self, value: float) -> float:
        return self.top + self.height * (1 - _share(value, self.y_range))


def _draw_x_axis(draw: ImageDraw.ImageDraw, x_range: tuple[float, float], top: int, label: str) -> None:
    for value in round_ticks(x_range, 8):
        x = _x(value, x_range)
        draw.line([_zoomed(x, top - _BOTTOM), _zoomed(x, top - _BOTTOM + 5)], fill=_INK, width=_ZOOM)
        _write(draw, (x, top - _BOTTOM + 16), f"{value:.6g}", anchor="mm")
    _write(draw, ((_LEFT + _WIDTH - _RIGHT) / 2, top - _BOTTOM + 36), label, size=13, anchor="mm")


def _x(value: float, x_range: tuple[float, float]) -> float:
    return _LEFT + (_WIDTH - _RIGHT - _LEFT) * _share(value, x_range)


def _share(value: float, bounds: tuple[float, float]) -> float:
    """Returns the position of a value between two bounds, from 0 to 1."""
    low, high = bounds
    if math.isinf(high - low):  # the difference overflows
        value, low, high = value / 2, low / 2, high / 2
    return (value - low) / (high - low)


def _zoomed(x: float, y: float) -> tuple[float, float]:
    return x * _ZOOM, y * _ZOOM


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    size: int = 12,
    color: RGB = _INK,
    anchor: str = "lm",
) -> None:
    line = printable(text[:_LONGEST_TEXT]).replace("\n", "\\n")
    draw.text(_zoomed(*place), line, fill=color, font=text_font(size * _ZOOM), anchor=anchor)


def _padded(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    """Returns the range of values with a margin; it is never empty."""
    low, high = min(values), max(values)
    room = min(high - low, _MOST) * margin or (0.0 if high > low else abs(high) * 0.1 or 1.0)
    return max(low - room, -_MOST), min(high + room, _MOST)


def round_ticks(bounds: tuple[float, float], most: int) -> list[float]:
    """Returns round numbers within the bounds, in steps of 1, 2 or 5 times a power of ten."""
    low, high = bounds
    rough = max(high / most - low / most if math.isinf(high - low) else (high - low) / most, sys.float_info.min)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _spread(spots: list[tuple[float, int]], *, gap: float, low: float, high: float) -> list[tuple[float, int]]:
    """Moves labels down until each is at least `gap` below the one above, then up if they leave the panel."""
    heights = [max(y, low) for y, _ in spots]
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + gap)
    for place in reversed(range(len(heights))):
        limit = high if place == len(heights) - 1 else heights[place + 1] - gap
        heights[place] = min(heights[place], limit)
    return [(y, number) for y, (_, number) in zip(heights, spots, strict=True)]
