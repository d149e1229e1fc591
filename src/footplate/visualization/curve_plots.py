"""Plots a run's curves with matplotlib."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from footplate.messages import printable
from footplate.visualization.drawing import canvas_to_image

_MAX_LARGE = 4  # if there are more panels than this, they are drawn smaller
_MAX_LABEL = 40  # characters
_LIMIT = 1e100  # larger values would cause an overflow when matplotlib computes the axes
# Okabe and Ito's color-blind-friendly palette.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6e6e6e", "#967814")


def plot(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], x_label: str) -> Image.Image:
    """Plots panels one below the other, with a shared x-axis, and returns the image.

    Each panel shows its first eight curves. Curves with up to 30 points have markers.

    Args:
        panels: The points (x, y) of each curve, keyed by the title of the panel and the label of the curve.
        x_label: The label of the x-axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # imported here, because it takes half a second
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height = 1.3 if len(panels) > _MAX_LARGE else 2.4
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)
    figure = Figure(figsize=(9, height * len(panels) + 0.6), dpi=110, layout=layout)
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for (title, curves), ax in zip(panels.items(), axes, strict=True):
        count = f" ({len(_COLORS)} of {len(curves)})" if len(curves) > len(_COLORS) else ""
        ax.set_title(_text(title + count), loc="left", fontsize=10, fontweight="bold")
        for (name, points), color in zip(curves.items(), _COLORS, strict=False):
            x, y = np.clip(np.array(points, float).T, -_LIMIT, _LIMIT)
            label = f"{_text(name)}  {points[-1][1]:.4g}"
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
