"""Plots curves as text with sixty columns and round numbers on both axes."""

import math
from collections.abc import Iterable, Sequence

import plotille  # type: ignore[import-untyped, unused-ignore]

from footplate.visualization.curves import round_ticks

_WIDTH = 48  # characters between the axes, with two dots each
_ROWS = 12
_DOTS = 4  # per row
_MOST_TICKS = 6
_BLANK = "\N{BRAILLE PATTERN BLANK}"
_Points = Sequence[tuple[float, float]]


def terminal_plot(curves: Sequence[_Points]) -> list[str]:
    """Returns the lines of a plot of curves, without colors and with the same width in any terminal.

    Args:
        curves: The points of each curve in ascending order of x; x starts at 0.
    """
    last = max(x for curve in curves for x, _ in curve) or 1.0
    heights = _rungs([y for curve in curves for _, y in curve])
    between = max(1, _ROWS // (len(heights) - 1))  # rows between two ticks
    rows = (len(heights) - 1) * between + 1
    labels = _as_numbers(heights)
    left = max(map(len, labels))
    named = {rows - 1 - place * between: label for place, label in enumerate(labels)}
    lines = [
        f"{named.get(number, ''):>{left}} {'┤' if number in named else '│'}{row.rstrip(_BLANK)}"
        for number, row in enumerate(_drawn(curves, last, heights, rows))
    ]
    return [line.rstrip() for line in (*lines, *_x_axis(last, left + 1))]


def _as_numbers(values: Sequence[float]) -> list[str]:
    """Formats evenly spaced numbers with as many decimals as their step needs, or with exponents."""
    step = min((abs(b - a) for a, b in zip(values, values[1:], strict=False)), default=1.0)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals > 5 or step >= 1e12:
        return [f"{value:.6g}" for value in values]
    return [f"{value:.{decimals}f}" if value else "0" for value in values]


def _rungs(values: Iterable[float]) -> list[float]:
    """Returns evenly spaced round numbers that cover the values; they start at 0 if the minimum is close to it."""
    found = list(values)
    low, high = min(found), max(found)
    if 0 <= low <= high / 2:
        low = 0.0
    if low == high:
        low, high = min(low, 0.0), max(high, 0.0) or 1.0
    inner = round_ticks((low, high), _MOST_TICKS)
    step = (inner[-1] - inner[0]) / (len(inner) - 1) if len(inner) > 1 else high - low
    first, final = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, final + 1)]


def _drawn(curves: Sequence[_Points], last: float, heights: Sequence[float], rows: int) -> list[str]:
    """Draws the curves so that the first and last tick lie in the middle of the last and first row."""
    dot = (heights[-1] - heights[0]) / (_DOTS * (rows - 1))
    bottom = heights[0] - 1.6 * dot  # not 1.5 dots, which rounding would move up or down
    columns = 2 * _WIDTH
    canvas = plotille.Canvas(
        _WIDTH, rows, xmin=0, ymin=bottom, xmax=last * columns / (columns - 1), ymax=bottom + _DOTS * rows * dot
    )
    for curve in curves:
        for (x, y), (next_x, next_y) in zip(curve, [*curve[1:], curve[-1]], strict=True):
            canvas.line(x, y, next_x, next_y)
    return list(canvas.plot("\n").split("\n"))


def _x_axis(last: float, left: int) -> list[str]:
    for most in range(_MOST_TICKS, 0, -1):
        values = [value for value in round_ticks((0.0, last), most) if value == round(value)]
        labels = [f"{value:.0f}" for value in values]
        places = [round(value / last * (_WIDTH - 1)) for value in values]
        if len(values) < 3 or max(map(len, labels)) + 2 <= places[1] - places[0]:
            break
    rule = "".join("┬" if place in places else "─" for place in range(_WIDTH))
    line = ""
    for place, label in zip(places, labels, strict=True):
        line = line.ljust(left + 1 + place - (len(label) - 1) // 2) + label
    return [f"{' ' * left}└{rule}", line, " " * (left + 1) + "iteration".center(_WIDTH)]
