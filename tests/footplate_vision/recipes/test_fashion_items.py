from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from footplate.registry import DATASETS
from footplate_vision.recipes.fashion_items import CLASSES, load_items


def test_licence_is_packaged() -> None:
    assert "Zalando SE" in (files("footplate_vision.recipes") / "data" / "LICENSE-fashion-mnist").read_text()


def items(*arguments: Any, **settings: Any) -> Any:
    return DATASETS.build({"type": "FashionItems", **settings}, *arguments)


@pytest.mark.parametrize(("split", "count"), [("train", 700), ("test", 200)])
def test_items_of_each_split(split: str, count: int) -> None:
    found, known = items(split=split), load_items("train" if split == "train" else "test")
    assert len(found) == count
    for index in (0, count // 2, count - 1):
        sample = found[index]
        assert np.array_equal(sample["img"], known.grey[index])
        assert sample["gt_label"] == known.classes[index] == found.get_cat_ids(index)[0]
        assert sample["img_path"] == f"fashion-items-{split}/{index:03d}.png"
    assert found.metainfo == {"classes": CLASSES}
