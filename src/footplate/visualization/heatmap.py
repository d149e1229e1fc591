"""Renders feature maps and heat maps as images."""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.checks import check_choice, check_count, check_fraction
from footplate.errors import ArgumentError
from footplate.visualization.drawing import ImageArray, as_array

Reduction = Literal["squeeze_mean", "select_max"]


def draw_featmap(
    featmap: Any,
    overlaid_image: Any = None,
    channel_reduction: Reduction | None = "squeeze_mean",
    topk: int = 20,
    arrangement: tuple[int, int] = (4, 5),
    resize_shape: tuple[int, int] | None = None,
    alpha: float = 0.5,
) -> ImageArray:
    """Returns an image of a feature map with colors from blue for low to red for high values.

    Args:
        featmap: ``(C, H, W)``, any range of values.
        overlaid_image: ``(H', W', 3)`` or ``(H', W')``, uint8. The map is resized to this image and blended with it.
        channel_reduction: "squeeze_mean" shows the mean of the channels. "select_max" shows the channel with the
            largest mean. None shows a grid of the `topk` channels with the largest means.
        topk: The number of channels in the grid, or -1 for all.
        arrangement: The numbers of rows and columns of the grid.
        resize_shape: The height and width of the image if there is no `overlaid_image`.
        alpha: The weight of `overlaid_image`, between 0 and 1.

    Returns:
        A uint8 RGB image ``(H, W, 3)``, or ``(rows * H, columns * W, 3)`` for a grid.

    Raises:
        ArgumentError: The map is not ``(C, H, W)``, or an argument is invalid.

    Example:
        >>> draw_featmap(np.zeros((8, 4, 6)), resize_shape=(40, 60)).shape
        (40, 60, 3)
    """
    planes = as_array(featmap).astype(np.float64)
    if planes.ndim != 3 or not planes.size:
        raise ArgumentError("a feature map must have the shape (C, H, W)", key="featmap", found=planes.shape)
    check_fraction("alpha", alpha)
    if channel_reduction is not None:
        check_choice("channel_reduction", channel_reduction, get_args(Reduction))
        chosen = planes.mean(0) if channel_reduction == "squeeze_mean" else planes[planes.mean((1, 2)).argmax()]
        return _render_plane(chosen, overlaid_image, resize_shape, alpha)
    rows, columns = arrangement
    count = len(planes) if topk == -1 else min(check_count("topk", topk), len(planes))
    if rows * columns < count:
        raise ArgumentError(
            f"{count} channels do not fit into {rows} x {columns}", key="arrangement", found=arrangement
        )
    best = np.argsort(-planes.mean((1, 2)), kind="stable")[:count]
    tiles = [_render_plane(planes[each], overlaid_image, resize_shape, alpha) for each in best]
    tiles += [np.full_like(tiles[0], 255)] * (rows * columns - count)
    lines = [np.concatenate(tiles[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    return np.concatenate(lines, axis=0)


def heat_colors(values: npt.NDArray[np.float64]) -> ImageArray:
    """Maps values from 0 to 1 to colors from blue through green to red: ``(..., 3)``, uint8, RGB."""
    centers = np.array([3.0, 2.0, 1.0])
    channels = np.clip(1.5 - np.abs(4 * values[..., None] - centers), 0, 1)
    colors: ImageArray = np.rint(255 * channels).astype(np.uint8)
    return colors


def _render_plane(
    plane: npt.NDArray[np.float64], image: Any, shape: tuple[int, int] | None, alpha: float
) -> ImageArray:
    """Returns the image of one channel, resized to `shape`, or blended with `image`."""
    below = None if image is None else as_array(image)
    if below is not None and below.ndim == 2:
        below = np.repeat(below[..., None], 3, axis=2)
    size = below.shape[:2] if below is not None else shape or plane.shape
    finite = np.nan_to_num(plane)
    low, high = finite.min(), finite.max()
    relative = (finite - low) / (high - low) if high > low else np.zeros_like(finite)
    enlarged = Image.fromarray(relative.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    colors = heat_colors(np.asarray(enlarged, dtype=np.float64))
    if below is None:
        return colors
    return np.rint(alpha * below + (1 - alpha) * colors).clip(0, 255).astype(np.uint8)
