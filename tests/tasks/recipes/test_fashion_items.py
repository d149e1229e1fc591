from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from footplate.registry import DATASETS
from footplate.tasks.recipes.fashion_items import CLASSES, load_items


def test_train_and_test_items_are_disjoint() -> None:
    train = {grey.tobytes() for grey in load_items("train").grey}
    test = {grey.tobytes() for grey in load_items("test").grey}
    assert (len(train), len(test)) == (700, 200)
    assert not train & test


def test_licence_is_packaged() -> None:
    assert "Zalando SE" in (files("footplate.tasks.recipes") / "data" / "LICENSE-fashion-mnist").read_text()


def test_outlines_are_filled_unless_the_class_is_hollow() -> None:
    items = load_items("train")
    assert set(np.unique(items.outline)) == {0, 255}
    added = ((items.outline == 255) & (items.grey < 16)).sum(axis=(1, 2))
    hollow = np.isin(items.classes, [CLASSES.index("sandal"), CLASSES.index("bag")])
    assert added[hollow].sum() == 0
    assert added[~hollow].sum() > 500
    assert not ((items.outline == 0) & (items.grey >= 16)).any()


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


def test_pipeline_is_applied() -> None:
    sample = items(pipeline=[{"type": "RandomWarp", "flip": 1.0}, {"type": "PackInputs"}])[3]
    assert np.array_equal(sample["inputs"][0].numpy(), load_items("train").grey[3][:, ::-1])
    assert load_items("train").grey.flags.writeable is True
