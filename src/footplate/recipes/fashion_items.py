"""The data set of single items."""

from collections.abc import Sequence
from typing import Any

from footplate.data import Compose
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.recipes.items import CLASSES, Split, load_items
from footplate.registry import DATASETS


@DATASETS.register_module()
class FashionItems:
    """Real pictures of clothes, shoes and bags, grey, 28 x 28: 700 to train on and 200 to test on.

    Without a pipeline a sample is a dict under the field's names: `img`, ``(28, 28)``, uint8, black where there is
    no item; `gt_label`, 0 to 9; and what describes the picture.

    Args:
        split: "train" or "test".
        per_class: Only these items of each class, from the first number up to the second: `(50, 70)` of the train
            items serves to choose settings by, so that the test items decide nothing.
        pipeline: Transforms that make of the dict what a task's model takes.

    Raises:
        ArgumentError: There is no such split, or `per_class` leaves no item.

    Example:
        >>> items = FashionItems("test")
        >>> len(items), items[199]["gt_label"], items[0]["img"].shape
        (200, 9, (28, 28))
    """

    def __init__(
        self,
        split: Split = "train",
        *,
        per_class: tuple[int, int] | None = None,
        pipeline: Sequence[Any] = (),
    ) -> None:
        self._items = load_items(split)
        self._split = split
        every = len(self._items.classes) // len(CLASSES)
        first, end = per_class if per_class is not None else (0, every)
        if not 0 <= first < end <= every:
            raise ArgumentError(f"a class has {every} items, numbered from 0", key="per_class", found=per_class)
        self._places = [label * every + place for label in range(len(CLASSES)) for place in range(first, end)]
        with at_key("pipeline"):
            self._pipeline = Compose(pipeline)

    @property
    def metainfo(self) -> dict[str, Any]:
        """The names of the classes."""
        return {"classes": CLASSES}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        return self._pipeline(self.sample(index))

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the class of an item."""
        return [int(self._items.classes[self._places[idx]])]

    def sample(self, index: int) -> dict[str, Any]:
        """Returns an item under the names that transforms know.

        Raises:
            IndexError: There is no such item.
        """
        if not 0 <= index < len(self._places):
            raise IndexError(f"there are {len(self._places)} items, so there is none at {index}")
        place = self._places[index]
        image = self._items.grey[place]
        return {
            "img": image,
            "gt_label": int(self._items.classes[place]),
            "img_path": f"fashion-items-{self._split}/{place:03d}.png",
            "img_shape": image.shape,
            "ori_shape": image.shape,
            "sample_idx": index,
        }
