"""Arranges images side by side, with captions and a legend."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from footplate.errors import ArgumentError
from footplate.visualization.drawing import RGB, ImageArray, text_font

_PAPER = (255, 255, 255)
_INK = (40, 40, 40)
_MARGIN = 10
_SMALLEST_PANEL = 256


class LegendEntry(NamedTuple):
    """A color and its meaning."""

    color: RGB
    label: str


def arrange_panels(panels: Mapping[str, ImageArray], legend: Sequence[LegendEntry] = ()) -> ImageArray:
    """Arranges images of one size side by side, with captions above and a legend below.

    Small images are enlarged by an integer factor without smoothing, so that captions are readable.

    Args:
        panels: The images by caption, each ``(H, W, 3)``, uint8, RGB.
        legend: The colors and their meanings.

    Returns:
        ``(H', W', 3)``, uint8, RGB.

    Raises:
        ArgumentError: There are no images, or their sizes differ.
    """
    shapes = {image.shape for image in panels.values()}
    if len(shapes) != 1:
        raise ArgumentError("panels must be images of one size", key="panels", found=sorted(shapes))
    height, width = shapes.pop()[:2]
    zoom = max(1, -(-_SMALLEST_PANEL // max(height, width)))
    height, width = zoom * height, zoom * width
    size = max(12, width // 20)
    caption = size + _MARGIN
    page_width = len(panels) * (width + _MARGIN) + _MARGIN
    line_height = round(1.6 * size)
    entries: list[tuple[int, int, LegendEntry]] = []  # with the left edge and the row
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
    for number, (label, image) in enumerate(panels.items()):
        left = _MARGIN + number * (width + _MARGIN)
        draw.text((left + width / 2, _MARGIN + size / 2), label, fill=_INK, font=text_font(size), anchor="mm")
        page.paste(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST), (left, _MARGIN + caption))
    for left, row, entry in entries:
        y = legend_top + row * line_height
        draw.rectangle((left, y, left + size, y + size), fill=entry.color, outline=_INK)
        draw.text((left + 1.4 * size, y + size / 2), entry.label, fill=_INK, font=text_font(size), anchor="lm")
    return np.array(page)
