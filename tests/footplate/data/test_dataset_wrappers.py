import math
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from footplate.data import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
    metainfo_of,
)
from footplate.errors import ArgumentError
from footplate.registry import DATASETS


class CategoriesForTest(BaseDataset):
    """Samples with the categories that `filter_cfg` lists."""

    def load_data_list(self) -> list[Any]:
        assert self.filter_cfg is not None
        return [{"cats": cats} for cats in self.filter_cfg["cats"]]

    def get_cat_ids(self, idx: int) -> list[int]:
        return self.get_data_info(idx)["cats"]  # type: ignore[no-any-return]


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    DATASETS.register_module(module=CategoriesForTest, force=True)


def section(*cats: list[int], **options: Any) -> dict[str, Any]:
    return {"type": "CategoriesForTest", "filter_cfg": {"cats": list(cats)}, **options}


def build(*cats: list[int], **options: Any) -> BaseDataset:
    return CategoriesForTest(filter_cfg={"cats": list(cats)}, **options)


def cats_of(dataset: Any) -> list[list[int]]:
    return [dataset[at]["cats"] for at in range(len(dataset))]


@pytest.mark.parametrize("lazy_init", [False, True])
def test_datasets_are_concatenated(lazy_init: bool) -> None:
    dataset = ConcatDataset(
        [section([1], [2], lazy_init=lazy_init), build(), build([3], lazy_init=lazy_init)], lazy_init=lazy_init
    )
    assert cats_of(dataset) == [[1], [2], [3]]
    assert dataset[-1]["cats"] == dataset.get_cat_ids(2) == [3]
    assert dataset.get_data_info(2) == {"cats": [3], "sample_idx": 0}
    with pytest.raises(IndexError):
        dataset[3]


def test_metainfo_of_concatenated_datasets_must_agree() -> None:
    parts = [build([1], metainfo={"a": 1}), build([2], metainfo={"a": 2})]
    with pytest.raises(
        ArgumentError, match=r"differs in 'a'\n  key datasets\[1\].metainfo.a\n  found: 2\n.*ignore_keys"
    ):
        ConcatDataset(parts)
    assert ConcatDataset(parts, ignore_keys="a").metainfo == {"a": 1}
    assert ConcatDataset(parts, ignore_keys=["a", "b"]).metainfo == {"a": 1}
    arrays = [build([1], metainfo={"a": np.array(values)}) for values in ([1, 2], [1, 2], [1, 2, 3])]
    assert len(ConcatDataset(arrays[:2])) == 2
    with pytest.raises(ArgumentError, match="the metainfo of datasets 0 and 2 differs in 'a'"):
        ConcatDataset(arrays)


@pytest.mark.parametrize("lazy_init", [False, True])
def test_a_dataset_is_repeated(lazy_init: bool) -> None:
    dataset = RepeatDataset(section([1], [2], metainfo={"a": 1}), times=3, lazy_init=lazy_init)
    assert cats_of(dataset) == [[1], [2]] * 3
    assert dataset.get_data_info(5)["cats"] == dataset.get_cat_ids(-1) == [2]
    assert dataset.metainfo == {"a": 1}
    with pytest.raises(IndexError):
        dataset[6]
    with pytest.raises(ArgumentError, match="times must be an integer >= 1"):
        RepeatDataset(build([1]), times=0)


@pytest.mark.parametrize("threshold", [0.1, 1.0])
def test_samples_of_rare_categories_are_repeated(threshold: float) -> None:
    cats = [[0], [0], [0], [0, 1], [0], [0, 2], [0, 2], [0], [], [1]]
    share = {0: 0.8, 1: 0.2, 2: 0.2}
    times = [math.ceil(max([1.0, *(math.sqrt(threshold / share[cat]) for cat in each)])) for each in cats]
    dataset = ClassBalancedDataset(section(*cats), threshold)
    assert cats_of(dataset) == [each for each, number in zip(cats, times, strict=True) for _ in range(number)]
    seen = Counter(dataset.get_data_info(at)["sample_idx"] for at in range(len(dataset)))
    assert [seen[at] for at in range(10)] == times
    assert max(times) == {0.1: 1, 1.0: 3}[threshold]


@pytest.mark.parametrize(
    "convert",
    [
        int,
        torch.tensor,
        lambda cat: [torch.tensor(cat), np.array(cat)],
        lambda cat: f"class {cat}",
    ],
)
def test_categories_may_have_any_type_of_value(convert: Callable[[int], Any]) -> None:
    inner: Any = build(*[[]] * 6)
    inner.get_cat_ids = lambda idx: convert(idx // 4)
    dataset = ClassBalancedDataset(RepeatDataset(inner, 1), 0.5)
    assert [dataset.get_data_info(at)["sample_idx"] for at in range(len(dataset))] == [0, 1, 2, 3, 4, 4, 5, 5]


@pytest.mark.parametrize("value", [None, [None], [math.nan], torch.tensor([True, False]), b"cat"])
def test_values_that_are_not_categories_are_errors(value: Any) -> None:
    inner: Any = build([])
    inner.get_cat_ids = lambda idx: value
    with pytest.raises(ArgumentError, match="get_cat_ids of 'CategoriesForTest' must return indices or names"):
        ClassBalancedDataset(inner, 1.0)


def test_a_dataset_without_categories_cannot_be_balanced() -> None:
    with pytest.raises(ArgumentError, match="the dataset 'TensorDataset' has no get_cat_ids"):
        ClassBalancedDataset(TensorDataset(torch.zeros(2)), 1.0)


def test_a_subclass_of_concat_dataset_needs_no_call_of_the_constructor() -> None:
    class Different(ConcatDataset):
        """Accepts datasets whose metadata differs, as the class of a code base does."""

        def __init__(self, datasets: list[Any]) -> None:
            self.datasets = datasets
            self._metainfo = [dataset.metainfo for dataset in datasets]
            self._fully_initialized = False
            self.full_init()

    found = Different([build([0], [1], metainfo={"split": 1}), build([2], metainfo={"split": 2})])
    assert (cats_of(found), found.cumulative_sizes) == ([[0], [1], [2]], [2, 3])
    assert (found.metainfo, found._get_ori_dataset_idx(2)) == ([{"split": 1}, {"split": 2}], (1, 0))
    assert metainfo_of(SimpleNamespace(dataset=found)) == RepeatDataset(found, 2).metainfo == {"split": 1}
