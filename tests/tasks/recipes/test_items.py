from importlib.resources import files
from typing import Literal, cast

import numpy as np
import pytest
from PIL import Image

from footplate.errors import ArgumentError
from footplate.tasks.recipes.fashion_items import CLASSES, load_items


@pytest.mark.parametrize(("split", "count"), [("train", 70), ("test", 20)])
def test_number_of_items_per_class(split: Literal["train", "test"], count: int) -> None:
    items = load_items(split)
    assert items.grey.shape == items.outline.shape == (10 * count, 28, 28)
    assert items.classes.tolist() == [number for number in range(10) for _ in range(count)]


def test_train_and_test_items_are_disjoint() -> None:
    train = {grey.tobytes() for grey in load_items("train").grey}
    test = {grey.tobytes() for grey in load_items("test").grey}
    assert (len(train), len(test)) == (700, 200)
    assert not train & test


@pytest.mark.parametrize(
    ("split", "position", "row", "column"),
    [("train", 0, 0, 0), ("train", 69, 2, 9), ("test", 0, 2, 10), ("train", 71, 3, 1), ("test", 199, 29, 29)],
)
def test_split_follows_the_order_in_the_file(
    split: Literal["train", "test"], position: int, row: int, column: int
) -> None:
    with Image.open(str(files("footplate.tasks.recipes") / "data" / "fashion-items.png")) as sheet:
        pixels = np.asarray(sheet)
    expected = pixels[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
    assert (load_items(split).grey[position] == expected).all()


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


def test_unknown_split_raises() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'train'"):
        load_items(cast("Literal['train']", "trian"))
