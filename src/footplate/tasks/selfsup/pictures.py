"""Draws nearest neighbours and reconstructions of self-supervised models."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from footplate.visualization import as_array

Picture = npt.NDArray[np.uint8]

_GAP = 4
_SHOWN_SIZE = 84
_PAPER = 255
_SAME, _OTHER = (0, 114, 178), (213, 94, 0)  # from the colour-blind safe palette of Okabe and Ito


def draw_neighbors(
    queries: Sequence[Picture], neighbors: Sequence[Sequence[Picture]], same: Sequence[Sequence[bool]]
) -> Picture:
    """Returns an image in which each row shows a query, followed by its nearest neighbours.

    Args:
        queries: ``(h, w, 3)`` each, uint8, RGB, all of one size.
        neighbors: The neighbours of each query, the nearest first.
        same: Whether each neighbour has the class of the query. The frame is blue if so, or else orange.

    Returns:
        ``(H, W, 3)``, uint8, RGB.
    """
    rows = [
        [_framed(query, None), *(_framed(each, right) for each, right in zip(found, flags, strict=True))]
        for query, found, flags in zip(queries, neighbors, same, strict=True)
    ]
    return _page(rows)


def draw_reconstructions(pictures: Sequence[Picture], hidden: Sequence[Picture], guessed: Sequence[Picture]) -> Picture:
    """Returns an image in which each row shows an image, its visible patches, and its reconstruction.

    Args:
        pictures: ``(h, w, 3)`` each, uint8, RGB, all of one size.
        hidden: The masked pixels, ``(h, w)`` each, bool.
        guessed: The reconstructions, ``(h, w, 3)`` each, uint8, RGB.

    Returns:
        ``(H, W, 3)``, uint8, RGB. Masked pixels are grey in the second column. The third column shows the
        reconstruction for masked pixels only.
    """
    rows = []
    for picture, gone, guess in zip(pictures, hidden, guessed, strict=True):
        covered, filled = picture.copy(), picture.copy()
        covered[gone] = 128
        filled[gone] = guess[gone]
        rows.append([_framed(each, None) for each in (picture, covered, filled)])
    return _page(rows)


def as_picture(planes: object) -> Picture:
    """Converts ``(1 or 3, h, w)`` with values from 0 to 255 to an image ``(h, w, 3)``, uint8, RGB."""
    pixels = np.rint(as_array(planes)).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _framed(picture: Picture, same: bool | None) -> Picture:
    """Enlarges an image by an integer factor, and adds a frame whose colour shows whether the class is the same."""
    zoom = max(1, _SHOWN_SIZE // max(picture.shape[:2]))
    large = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
    color = _PAPER if same is None else _SAME if same else _OTHER
    framed = np.empty((large.shape[0] + 2 * _GAP, large.shape[1] + 2 * _GAP, 3), np.uint8)
    framed[:] = color
    framed[_GAP:-_GAP, _GAP:-_GAP] = large
    return framed


def _page(rows: Sequence[Sequence[Picture]]) -> Picture:
    margin = ((_GAP, _GAP), (_GAP, _GAP), (0, 0))
    lines = [np.concatenate([np.pad(each, margin, constant_values=_PAPER) for each in row], axis=1) for row in rows]
    return np.concatenate(lines, axis=0)
