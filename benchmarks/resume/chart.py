"""Draws how the killed runs of each engine end, as SVG.

The background is transparent, and the colors are readable on light and dark pages.
"""

from collections.abc import Iterator
from html import escape

_ENDS = {"bit-identical": "#3d5afe", "another result": "#a9b0bd", "does not restart": "#e5534b"}
_TEXT = "#707885"
_LEFT, _BAR, _TOP, _ROW, _WIDTH = 300, 370, 44, 24, 760


def draw(engines: list[tuple[str, tuple[int, int, int]]]) -> str:
    """Returns the chart, with a bar for each engine; the engines with the most bit-identical runs come first."""
    rows = sorted(engines, key=lambda row: (-row[1][0], row[1][2], row[0] != "footplate", row[0].lower()))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_TOP + _ROW * len(rows) + 6}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{_TEXT}">',
        *_legend(),
    ]
    for number, (name, counts) in enumerate(rows):
        parts += _row(name, counts, _TOP + _ROW * number)
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> Iterator[str]:
    for number, (title, color) in enumerate(_ENDS.items()):
        left = _LEFT + 130 * number
        yield f'<rect x="{left}" y="12" width="12" height="12" rx="2" fill="{color}"/>'
        yield f'<text x="{left + 18}" y="22.5">{title}</text>'


def _row(name: str, counts: tuple[int, int, int], top: int) -> Iterator[str]:
    weight = ' font-weight="bold"' if name == "footplate" else ""
    yield f'<text x="{_LEFT - 12}" y="{top + 16}" text-anchor="end"{weight}>{escape(name)}</text>'
    left = float(_LEFT)
    for count, color in zip(counts, _ENDS.values(), strict=True):
        width = _BAR * count / sum(counts)
        if count:
            yield f'<rect x="{left:.1f}" y="{top + 4}" width="{width - 1:.1f}" height="16" rx="2" fill="{color}"/>'
        left += width
    yield f'<text x="{_LEFT + _BAR + 8}" y="{top + 16}"{weight}>{counts[0]} of {sum(counts)}</text>'
