"""The dataset of single items."""

from collections.abc import Sequence
from typing import Any

from footplate.data import Compose
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.registry import DATASETS
from footplate.tasks.recipes.items import CLASSES, Split, load_items


@DATASETS.register_module()
class FashionItems:
    """Grayscale images of clothes, shoes and bags, 28 x 28 pixels: 700 training and 200 test items.

    Without a pipeline, a sample is a dict with `img`, ``(28, 28)``, uint8, 0 on the background; `gt_label`, 0 to 9;
    and metadata of the image.

    Args:
        split: "train" or "test".
        per_class: The first and the end index of the items to use from each class. `(50, 70)` of the training items
            can serve as validation data.
        pipeline: Transforms that convert the dict to the input of a model.

    Raises:
        ArgumentError: The split is unknown, or `per_class` is empty or out of range.

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
        count = len(self._items.classes) // len(CLASSES)
        first, end = per_class if per_class is not None else (0, count)
        if not 0 <= first < end <= count:
            raise ArgumentError(
                f"per_class must be a non-empty range within the {count} items of a class",
                key="per_class",
                found=per_class,
            )
        self._indices = [label * count + index for label in range(len(CLASSES)) for index in range(first, end)]
        with at_key("pipeline"):
            self._pipeline = Compose(pipeline)

    @property
    def metainfo(self) -> dict[str, Any]:
        """The names of the classes."""
        return {"classes": CLASSES}

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self._pipeline(self.sample(index))

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the class of an item."""
        return [int(self._items.classes[self._indices[idx]])]

    def sample(self, index: int) -> dict[str, Any]:
        """Returns the sample of an item, before the pipeline.

        Raises:
            IndexError: The index is out of range.
        """
        if not 0 <= index < len(self._indices):
            raise IndexError(f"index {index} is out of range for {len(self._indices)} items")
        item = self._indices[index]
        image = self._items.grey[item]
        return {
            "img": image,
            "gt_label": int(self._items.classes[item]),
            "img_path": f"fashion-items-{self._split}/{item:03d}.png",
            "img_shape": image.shape,
            "ori_shape": image.shape,
            "sample_idx": index,
        }
