"""Draws on images and plots the curves of a run, without a display or a plotting library."""

from footplate.visualization.colors import Color, as_rgb, distinct_colors
from footplate.visualization.curves import draw_curves
from footplate.visualization.drawing import Drawing, Picture, as_array
from footplate.visualization.heatmap import draw_featmap, heat_colors
from footplate.visualization.layout import LegendEntry, arrange_panels
from footplate.visualization.pictures import picture_of
from footplate.visualization.visualizer import Visualizer

__all__ = [
    "Color",
    "Drawing",
    "LegendEntry",
    "Picture",
    "Visualizer",
    "arrange_panels",
    "as_array",
    "as_rgb",
    "distinct_colors",
    "draw_curves",
    "draw_featmap",
    "heat_colors",
    "picture_of",
]
