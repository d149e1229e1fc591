"""Loads footplate's images of clothes, shoes and bags, and defines a dataset of individual images."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file, files
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.checks import check_choice, check_count
from footplate.data import Compose
from footplate.error_context import at_key
from footplate.registry import DATASETS

CLASSES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
ITEM_SIZE = 28
TRAIN_ITEMS_PER_CLASS = 70
Split = Literal["train", "test"]


class Items(NamedTuple):
    """The items (clothes, shoes and bags) of one split.

    Attributes:
        grey: ``(N, 28, 28)``, uint8, 0 on the background.
        outline: ``(N, 28, 28)``, uint8, 255 on the item and 0 on the background. The background consists of the pixels
            below 16 that are connected to the border and, in sandals and bags, of enclosed pixels below 16, which are
            visible through straps and handles.
        classes: ``(N,)``, int64, indices into ``CLASSES``.
        images: The items as Pillow images with two bands, ``grey`` and ``outline``.
    """

    grey: NDArray[np.uint8]
    outline: NDArray[np.uint8]
    classes: NDArray[np.int64]
    images: list[Image.Image]


@cache
def load_items(split: Split) -> Items:
    """Loads the items of a split: for each class, the first 70 items for training and the last 20 for testing.

    Raises:
        ArgumentError: ``split`` is neither ``"train"`` nor ``"test"``.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv:1708.07747 (MIT license, see the data folder).
    """
    check_choice("split", split, ("train", "test"))
    part = np.s_[:, :TRAIN_ITEMS_PER_CLASS] if split == "train" else np.s_[:, TRAIN_ITEMS_PER_CLASS:]
    grey, outline = (_load_sheet(name)[part] for name in ("fashion-items.png", "fashion-outlines.png"))
    classes = np.repeat(np.arange(len(CLASSES)), grey.shape[1])
    grey, outline = (pixels.reshape(-1, ITEM_SIZE, ITEM_SIZE) for pixels in (grey, outline))
    # Pillow transforms the bands of "La" independently, but premultiplies "LA" images with their alpha band.
    images = [Image.merge("La", [*map(Image.fromarray, bands)]) for bands in zip(grey, outline, strict=True)]
    return Items(grey, outline, classes, images)


def _load_sheet(name: str) -> NDArray[np.uint8]:
    """Loads a sheet of 30 x 30 items, with three rows per class, as an array of shape ``(10, 90, 28, 28)``."""
    with as_file(files("footplate_vision.recipes") / "data" / name) as path, Image.open(path) as sheet:
        grid = np.asarray(sheet.convert("L")).reshape(30, ITEM_SIZE, 30, ITEM_SIZE).transpose(0, 2, 1, 3)
    return grid.reshape(len(CLASSES), -1, ITEM_SIZE, ITEM_SIZE)  # type: ignore[no-any-return]


class ComposedDataset:
    """The base class for datasets whose samples are created in memory. Subclasses override `sample`.

    Args:
        length: The number of samples.
        pipeline: Transforms that convert a sample to the input of a model.
    """

    def __init__(self, length: int, pipeline: Sequence[Any]) -> None:
        self._length = check_count("length", length)
        with at_key("pipeline"):
            self.pipeline = Compose(pipeline)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self._length:
            raise IndexError(f"index {index} is out of range for {self._length} samples")
        return self.pipeline(self.sample(index))

    def sample(self, index: int) -> dict[str, Any]:
        """Returns a sample without applying the pipeline."""
        raise NotImplementedError


@DATASETS.register_module()
class FashionItems(ComposedDataset):
    """Grayscale images of clothes, shoes and bags, 28 x 28 pixels: 700 training and 200 test items.

    Without a pipeline, a sample is a dict with `img` (uint8, of shape ``(28, 28)``, 0 for the background), `gt_label`
    (0 to 9), and the image's metadata.

    Args:
        split: "train" or "test".
        pipeline: Transforms that convert the dict to the input of a model.

    Raises:
        ArgumentError: The split is unknown.

    Example:
        >>> items = FashionItems("test")
        >>> len(items), items[199]["gt_label"], items[0]["img"].shape
        (200, 9, (28, 28))
    """

    # How to load an item that was saved as a file, and its height and width.
    image_loader = {"type": "LoadImageFromFile", "color_type": "grayscale"}
    image_size = (ITEM_SIZE, ITEM_SIZE)

    def __init__(self, split: Split = "train", *, pipeline: Sequence[Any] = ()) -> None:
        self._items = load_items(split)
        self._split = split
        super().__init__(len(self._items.classes), pipeline)

    @property
    def metainfo(self) -> dict[str, Any]:
        """A dict with the class names as `classes`."""
        return {"classes": CLASSES}

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the class of an item, as a list with one item."""
        return [int(self._items.classes[idx])]

    def sample(self, index: int) -> dict[str, Any]:
        """Returns the sample of an item without applying the pipeline."""
        image = self._items.grey[index]
        return {
            "img": image,
            "gt_label": int(self._items.classes[index]),
            "img_path": f"fashion-items-{self._split}/{index:03d}.png",
            "img_shape": image.shape,
            "ori_shape": image.shape,
            "sample_idx": index,
        }
