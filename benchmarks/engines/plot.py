"""Draws the ratio of each engine to the handwritten loop by case, as SVG."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.engines.case import ENGINES, STEP, Case
from benchmarks.engines.judge import BY_HAND, Spread, ratio
from benchmarks.engines.results import Results

_COLORS = {
    "footplate": "#d62728",
    "ignite": "#2ca02c",
    "mmengine": "#1f77b4",
    "onedl": "#76b7e0",
    "lightning": "#9467bd",
    "transformers": "#e0a000",
}
_NAMES = {"onedl": "onedl-mmengine", "lightning": "Lightning", "transformers": "Trainer"}
_LEFT, _RIGHT, _TOP, _ROW, _WIDTH = 200, 30, 70, 46, 920
_STEPS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0)


def draw(cases: Sequence[Case], results: Results) -> str:
    """Returns the plot, with a row for each case of iterations, and a dot with quartiles for each engine."""
    rows = [(case, _spreads(case, results)) for case in cases if STEP in case.figures]
    rows = [(case, spreads) for case, spreads in rows if spreads]
    every = [each for _, spreads in rows for each in spreads.values()]
    scale = _Scale(min([0.95, *(each.low for each in every)]), max([1.2, *(each.high for each in every)]) * 1.05)
    height = _TOP + _ROW * len(rows) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">time of an iteration / bare loop (log scale; 1 = no overhead)</text>',
        *_legend(),
        *_grid(scale, height - 24),
    ]
    for number, (case, spreads) in enumerate(rows):
        parts += _row(case, spreads, scale, _TOP + _ROW * number + _ROW / 2)
    return "\n".join([*parts, "</svg>", ""])


class _Scale:
    """Maps ratios to horizontal positions on a logarithmic scale."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, ratio: float) -> float:
        share = math.log(ratio / self.low) / math.log(self.high / self.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _spreads(case: Case, results: Results) -> dict[str, Spread]:
    found = {engine: ratio(results, case, engine, BY_HAND) for engine in ENGINES if engine != BY_HAND}
    return {engine: spread for engine, spread in found.items() if spread is not None}


def _legend() -> Iterator[str]:
    place = float(_LEFT)
    for engine, color in _COLORS.items():
        name = _NAMES.get(engine, engine)
        yield f'<circle cx="{place + 5}" cy="40" r="5" fill="{color}"/><text x="{place + 14}" y="45">{name}</text>'
        place += 30 + 7.4 * len(name)


def _grid(scale: _Scale, bottom: float) -> Iterator[str]:
    for step in _STEPS:
        if scale.low <= step <= scale.high:
            x, color = scale(step), "#000000" if step == 1.0 else "#d8d8d8"
            yield f'<line x1="{x:.1f}" y1="{_TOP - 12}" x2="{x:.1f}" y2="{bottom}" stroke="{color}"/>'
            yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555555">{step:g}</text>'


def _row(case: Case, spreads: dict[str, Spread], scale: _Scale, y: float) -> Iterator[str]:
    yield f'<text x="{_LEFT - 14}" y="{y + 4:.1f}" text-anchor="end">{escape(case.title)}</text>'
    for place, (engine, spread) in enumerate(spreads.items()):
        at, color = y + (place - (len(spreads) - 1) / 2) * 6, _COLORS[engine]
        low, middle, high = (scale(each) for each in (spread.low, spread.median, spread.high))
        yield f'<line x1="{low:.1f}" y1="{at:.1f}" x2="{high:.1f}" y2="{at:.1f}" stroke="{color}" stroke-width="2"/>'
        size = 5 if engine == "footplate" else 4
        yield f'<circle cx="{middle:.1f}" cy="{at:.1f}" r="{size}" fill="{color}"/>'
