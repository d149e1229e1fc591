"""Colors by name or letter, and lists of distinct colors."""

import colorsys
from collections.abc import Sequence

from PIL import ImageColor

from footplate.errors import ArgumentError
from footplate.messages import nearest

Color = str | Sequence[int]
RGB = tuple[int, int, int]

_LETTERS = {
    "b": "blue",
    "g": "green",
    "r": "red",
    "c": "cyan",
    "m": "magenta",
    "y": "yellow",
    "k": "black",
    "w": "white",
}
_GOLDEN_RATIO = 0.618034


def as_rgb(color: Color) -> RGB:
    """Converts a color name ("red"), letter ("r"), code ("#ff0000") or three numbers from 0 to 255 to RGB.

    Raises:
        ArgumentError: The color is invalid.
    """
    if isinstance(color, str):
        try:
            red, green, blue = ImageColor.getrgb(_LETTERS.get(color, color))[:3]
        except ValueError as error:
            near = nearest(color, ImageColor.colormap)
            raise ArgumentError("unknown colour", found=color, suggestion=near) from error
        return red, green, blue
    numbers = [int(value) for value in color]
    if len(numbers) != 3 or not all(0 <= value <= 255 for value in numbers):
        raise ArgumentError("a colour has three numbers from 0 to 255", found=color)
    return numbers[0], numbers[1], numbers[2]


def distinct_colors(count: int) -> list[RGB]:
    """Returns colors that differ clearly from their neighbors in the list, the same ones at every call."""
    colors = []
    for position in range(count):
        lightness = (0.5, 0.65, 0.38)[position % 3]
        channels = colorsys.hls_to_rgb((0.02 + position * _GOLDEN_RATIO) % 1, lightness, 0.75)
        red, green, blue = (round(255 * channel) for channel in channels)
        colors.append((red, green, blue))
    return colors
