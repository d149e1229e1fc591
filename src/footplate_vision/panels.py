"""Arranges images side by side, with captions above and a legend below."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from footplate.visualization import ImageArray
from footplate.visualization.drawing import RGB, text_font

BLUE, ORANGE = (0, 114, 178), (213, 94, 0)  # from the color-blind safe palette of Okabe and Ito
INK, PAPER = (50, 50, 50), (255, 255, 255)
_MARGIN = 10
_SMALLEST_PANEL = 256


class PanelImage(np.ndarray[Any, np.dtype[np.uint8]]):
    """An image made up of several panels.

    LocalVisBackend stores the layout in the image file, so that reports can show the panels separately.

    Attributes:
        layout: A dict with `panels`, a list of ``[caption, x1, y1, x2, y2]``, and `legend`, a list of
            ``[label, red, green, blue]``. The `title` and the `path` of the original image may be "".
    """

    layout: dict[str, Any]


def arrange_panels(
    panels: Mapping[str, ImageArray], legend: Mapping[str, RGB] | None = None, title: str = "", path: str = ""
) -> PanelImage:
    """Arranges images of the same size side by side, with a title and captions above and a legend below.

    Small images are enlarged by an integer factor without smoothing, so that captions are readable.

    Args:
        panels: Maps captions to RGB images ``(H, W, 3)``, uint8.
        legend: Maps labels to their colors.
        title: The title of the whole image.
        path: The file of the original image, for the layout.

    Returns:
        An RGB image ``(H', W', 3)``, uint8.
    """
    legend = legend or {}
    height, width = next(iter(panels.values())).shape[:2]
    zoom = max(1, -(-_SMALLEST_PANEL // max(height, width)))
    height, width = zoom * height, zoom * width
    size = min(28, max(12, width // 20))  # of the text
    captions = _MARGIN + size // 2 + (round(1.6 * size) if title else 0)
    top = captions + size - size // 2 + _MARGIN
    bottom = top + height
    page_width = len(panels) * (width + _MARGIN) + _MARGIN
    places, legend_height = _place_legend(legend, size, page_width)
    page = Image.new("RGB", (page_width, bottom + _MARGIN + legend_height), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, _MARGIN + size / 2), title, fill=INK, font=text_font(size, title), anchor="lm")
    boxes = []
    for number, (label, image) in enumerate(panels.items()):
        left = _MARGIN + number * (width + _MARGIN)
        boxes.append([label, left, top, left + width, bottom])
        draw.text((left + width / 2, captions), label, fill=INK, font=text_font(size, label), anchor="mm")
        page.paste(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST), (left, top))
    for (label, color), (left, row) in zip(legend.items(), places, strict=True):
        y = bottom + _MARGIN + row
        draw.rectangle((left, y, left + size, y + size), fill=color, outline=INK)
        draw.text((left + 1.4 * size, y + size / 2), label, fill=INK, font=text_font(size, label), anchor="lm")
    arranged = np.array(page).view(PanelImage)
    colors = [[label, *color] for label, color in legend.items()]
    arranged.layout = {"panels": boxes, "legend": colors, "title": title, "path": path}
    return arranged


def _place_legend(labels: Iterable[str], size: int, page_width: int) -> tuple[list[tuple[int, int]], int]:
    """Arranges the legend in lines. Returns the x and y of each label, and the total height."""
    places: list[tuple[int, int]] = []
    line_height = round(1.6 * size)
    left, bottom = page_width, 0
    for label in labels:
        width = round(size * 2.2 + text_font(size, label).getlength(label))
        if left + width > page_width - _MARGIN:
            left, bottom = _MARGIN, bottom + line_height
        places.append((left, bottom - line_height))
        left += width
    return places, bottom + _MARGIN if places else 0
