"""Plots a run's curves with matplotlib."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from footplate.messages import printable
from footplate.visualization.drawing import canvas_to_image

_MAX_CURVES = 8
_MAX_LARGE = 4  # if there are more panels than this, they are drawn smaller
_MAX_LABEL = 40  # characters
_LIMIT = 1e100  # larger values would cause an overflow when matplotlib computes the axes
# Okabe and Ito's color-blind-friendly palette.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6e6e6e", "#967814")


class PlottedCurve(NamedTuple):
    """A labeled curve whose points (x, y) are in ascending order of x."""

    label: str
    points: list[tuple[float, float]]


class Panel(NamedTuple):
    """Curves that share a vertical axis."""

    title: str
    curves: list[PlottedCurve]


def panel_title(label: str, points: Sequence[tuple[float, float]], *, trains: bool) -> str:
    """Returns the title of a curve's panel. Metrics up to 1, up to 100 and above 100 get separate panels.

    Args:
        label: The name of the curve, such as "loss" or "coco/bbox_mAP".
        points: The points (x, y) of the curve.
        trains: Whether the values were logged in training rather than in validation.
    """
    group, slash, _ = label.partition("/")
    if trains and group.endswith("grad_norm"):
        return "gradient norm"
    if trains and (group == "lr" or group.startswith("lr_") or label.endswith(".lr")):
        return "learning rate"
    where = "training"
    if not trains:
        where = f"validation: {group}" if slash else "validation"
    if "loss" in label:
        return "loss" if trains else f"{where} loss"
    largest = max(abs(y) for _, y in points)
    if largest <= 100:
        return f"{where}, up to {1 if largest <= 1 else 100}"
    return f"{where}, above 100"


def plot(panels: Sequence[Panel], x_label: str) -> Image.Image:
    """Plots panels one below the other, with a shared x-axis, and returns the image.

    Each panel shows its first eight curves. Curves with up to 30 points have markers.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # imported here, because it takes half a second
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height = 1.3 if len(panels) > _MAX_LARGE else 2.4
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)
    figure = Figure(figsize=(9, height * len(panels) + 0.6), dpi=110, layout=layout)
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for panel, ax in zip(panels, axes, strict=True):
        count = f" ({_MAX_CURVES} of {len(panel.curves)})" if len(panel.curves) > _MAX_CURVES else ""
        ax.set_title(_text(panel.title + count), loc="left", fontsize=10, fontweight="bold")
        for curve, color in zip(panel.curves[:_MAX_CURVES], _COLORS, strict=False):
            x, y = np.clip(np.array(curve.points, float).T, -_LIMIT, _LIMIT)
            label = f"{_text(curve.label)}  {curve.points[-1][1]:.4g}"
            marker = "o" if len(x) <= 30 else ""
            ax.plot(x, y, color=color, linewidth=1.5, marker=marker, markersize=3, label=label)
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8, labelcolor="linecolor")
        ax.grid(color="#e6e6e6")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8, color="#aaaaaa")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel(x_label, fontsize=9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about characters missing in the font, or layouts that do not fit
        return Image.fromarray(canvas_to_image(FigureCanvasAgg(figure)))


def _text(text: str) -> str:
    """Shortens text to one line, and escapes it for matplotlib, which would otherwise hide labels such as `_a`."""
    text = text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 3]}..."
    line = printable(text).replace("\n", " ").replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line
