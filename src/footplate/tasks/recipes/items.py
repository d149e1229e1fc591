"""Loads the shipped items: 900 images of clothes, shoes and bags, with their outlines."""

from functools import cache
from importlib.resources import as_file, files
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.errors import ArgumentError
from footplate.messages import nearest

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
ITEM_SIZE = 28
TRAIN_ITEMS_PER_CLASS = 70
Split = Literal["train", "test"]

_ITEMS_PER_CLASS = 90
_FAINTEST_GREY = 16
# The background is visible through sandal straps and bag handles. Dark prints on other clothes belong to the item.
_HOLLOW_CLASSES = (CLASSES.index("sandal"), CLASSES.index("bag"))


class Items(NamedTuple):
    """The items of one split.

    Attributes:
        grey: ``(N, 28, 28)``, uint8, 0 on the background.
        outline: ``(N, 28, 28)``, uint8, 255 on the item and 0 on the background.
        classes: ``(N,)``, int64, indices into ``CLASSES``.
    """

    grey: NDArray[np.uint8]
    outline: NDArray[np.uint8]
    classes: NDArray[np.int64]


@cache
def load_items(split: Split) -> Items:
    """Loads the items of a split: for each class, the first 70 items for training and the last 20 for testing.

    Raises:
        ArgumentError: ``split`` is neither ``"train"`` nor ``"test"``.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv:1708.07747 (MIT licence, see the data folder).
    """
    if split not in ("train", "test"):
        raise ArgumentError(
            "unknown split", key="split", found=split, suggestion=nearest(str(split), ("train", "test"))
        )
    chosen = slice(None, TRAIN_ITEMS_PER_CLASS) if split == "train" else slice(TRAIN_ITEMS_PER_CLASS, None)
    grey = np.ascontiguousarray(_read_sheet()[:, chosen])
    outline = _outlines(grey)
    classes = np.repeat(np.arange(len(CLASSES)), grey.shape[1])
    shape = (-1, ITEM_SIZE, ITEM_SIZE)
    return Items(grey.reshape(shape), outline.reshape(shape), classes)


def _read_sheet() -> NDArray[np.uint8]:
    """Returns all items, ``(10, 90, 28, 28)``, uint8; each class fills three rows of the 30 x 30 grid in the file."""
    with as_file(files("footplate.tasks.recipes") / "data" / "fashion-items.png") as path, Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("L"))
    grid = pixels.reshape(30, ITEM_SIZE, 30, ITEM_SIZE).transpose(0, 2, 1, 3)
    items: NDArray[np.uint8] = grid.reshape(len(CLASSES), _ITEMS_PER_CLASS, ITEM_SIZE, ITEM_SIZE)
    return items


def _outlines(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the outlines of the items; enclosed holes are filled unless the class is hollow."""
    solid = grey >= _FAINTEST_GREY
    filled = ~_reached_from_outside(~solid)
    filled[list(_HOLLOW_CLASSES)] = solid[list(_HOLLOW_CLASSES)]
    outlines: NDArray[np.uint8] = filled.astype(np.uint8) * np.uint8(255)
    return outlines


def _reached_from_outside(free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the pixels of ``free``, ``(..., H, W)``, that are connected to the image border."""
    width = [(0, 0)] * (free.ndim - 2) + [(1, 1), (1, 1)]
    free = np.pad(free, width, constant_values=True)
    flooded = np.zeros_like(free)
    flooded[..., 0, :] = True
    count = 0
    while count != (count := int(flooded.sum())):
        flooded[..., 1:, :] |= flooded[..., :-1, :]
        flooded[..., :-1, :] |= flooded[..., 1:, :]
        flooded[..., :, 1:] |= flooded[..., :, :-1]
        flooded[..., :, :-1] |= flooded[..., :, 1:]
        flooded &= free
    return flooded[..., 1:-1, 1:-1]
