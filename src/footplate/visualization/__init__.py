"""Draws on images and plots a run's curves. Does not need a display."""

from footplate.records import ImageArray
from footplate.visualization.drawing import (
    Color,
    Drawing,
    as_array,
    as_rgb,
    canvas_to_image,
)
from footplate.visualization.visualizer import (
    Visualizer,
    build_visualizer,
    draw_featmap,
    skipping_failed_image,
)

__all__ = [
    "Color",
    "Drawing",
    "ImageArray",
    "Visualizer",
    "as_array",
    "as_rgb",
    "build_visualizer",
    "canvas_to_image",
    "draw_featmap",
    "skipping_failed_image",
]
