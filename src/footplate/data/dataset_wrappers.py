"""Datasets that wrap other datasets."""

import math
import operator
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from footplate.checks import check_count, check_number
from footplate.data.loader_attributes import metainfo_in
from footplate.errors import ArgumentError
from footplate.registry import DATASETS


class _DatasetWrapper(Dataset[Any]):
    """Base class for datasets that wrap one `dataset` or several `datasets` and map indices to them."""

    # Subclasses in code bases set these attributes without calling the constructor.
    _fully_initialized = False
    _metainfo: Any = None

    @property
    def metainfo(self) -> Any:
        """The metadata of the wrapped dataset, or of the first one if there are several."""
        return _metainfo(wrapped_datasets(self)[0]) if self._metainfo is None else self._metainfo

    def full_init(self) -> None:
        """Initializes the wrapped datasets. Later calls have no effect."""
        if not self._fully_initialized:
            for dataset in wrapped_datasets(self):
                if hasattr(dataset, "full_init"):
                    dataset.full_init()
            self._fully_initialized = True

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns the record of the sample with index `idx`."""
        dataset, inner = self._locate(idx)
        return dataset.get_data_info(inner)  # type: ignore[no-any-return]

    def get_cat_ids(self, idx: int) -> list[Any]:
        """Returns the categories that occur in a sample, usually indices."""
        return _categories(*self._locate(idx))

    def __getitem__(self, idx: int) -> Any:
        dataset, inner = self._locate(idx)
        return dataset[inner]

    def _locate(self, idx: int) -> tuple[Any, int]:
        """Returns the dataset that contains a sample, and the sample's index in that dataset."""
        raise NotImplementedError


@DATASETS.register_module()
class ConcatDataset(_DatasetWrapper):
    """Concatenates datasets.

    Args:
        datasets: Datasets, or configs for DATASETS.
        lazy_init: Whether to defer the initialization of the datasets until `full_init` is called or they are used.
        ignore_keys: Metainfo keys whose values may differ. The values of the first dataset are used.

    Raises:
        ArgumentError: `datasets` is empty, or the metainfo of the datasets differs.
    """

    def __init__(
        self, datasets: Sequence[Any], lazy_init: bool = False, ignore_keys: str | Sequence[str] | None = None
    ) -> None:
        if not datasets:
            raise ArgumentError("ConcatDataset needs at least one dataset", key="datasets")
        self.datasets = [DATASETS.build_nested(dataset, f"datasets[{index}]") for index, dataset in enumerate(datasets)]
        ignored = {ignore_keys} if isinstance(ignore_keys, str) else set(ignore_keys or ())
        first = _metainfo(self.datasets[0])
        for index, dataset in enumerate(self.datasets[1:], 1):
            metainfo = _metainfo(dataset)
            for key in {**first, **metainfo}:
                values: Any = first.get(key), metainfo.get(key)
                is_equal = np.array_equal if np.ndarray in map(type, values) else operator.eq
                if key not in ignored and not is_equal(*values):
                    raise ArgumentError(
                        f"the metainfo of datasets 0 and {index} differs in '{key}'",
                        key=f"datasets[{index}].metainfo.{key}",
                        found=metainfo.get(key),
                        notes=[f"To use the value of the first dataset, add '{key}' to ignore_keys."],
                    )
        if not lazy_init:
            self.full_init()

    @cached_property
    def cumulative_sizes(self) -> list[int]:
        """The cumulative lengths of the datasets."""
        self.full_init()
        return list(accumulate(len(dataset) for dataset in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def _get_ori_dataset_idx(self, idx: int) -> tuple[int, int]:
        """Returns the index of the dataset that contains a sample, and the sample's index in that dataset."""
        ends = self.cumulative_sizes
        idx = range(ends[-1])[idx]
        which = bisect_right(ends, idx)
        return which, idx - (ends[which - 1] if which else 0)

    def _locate(self, idx: int) -> tuple[Any, int]:
        which, inner = self._get_ori_dataset_idx(idx)
        return self.datasets[which], inner


@DATASETS.register_module()
class RepeatDataset(_DatasetWrapper):
    """Repeats a small dataset to make its epochs longer.

    Args:
        dataset: A dataset, or a config for DATASETS.
        times: The number of repetitions.
        lazy_init: Whether to defer the initialization of the dataset until `full_init` is called or it is used.

    Raises:
        ArgumentError: `times` is not a positive integer.
    """

    def __init__(self, dataset: Any, times: int, lazy_init: bool = False) -> None:
        self.times = check_count("times", times)
        self.dataset = DATASETS.build_nested(dataset, "dataset")
        if not lazy_init:
            self.full_init()

    def __len__(self) -> int:
        self.full_init()
        return self.times * len(self.dataset)

    def _locate(self, idx: int) -> tuple[Any, int]:
        return self.dataset, range(len(self))[idx] % len(self.dataset)


@DATASETS.register_module()
class ClassBalancedDataset(_DatasetWrapper):
    """Repeats samples of rare categories.

    Each sample is repeated ``max(1, sqrt(oversample_thr / f))`` times, rounded up, where f is the fraction of samples
    that contain the sample's rarest category. The wrapped dataset must implement `get_cat_ids`, which is called for
    each sample during initialization.

    Args:
        dataset: A dataset, or a config for DATASETS.
        oversample_thr: A category is rare if the fraction of samples that contain it is below this threshold.
        lazy_init: Whether to defer the initialization of the dataset until `full_init` is called or it is used.

    Raises:
        ArgumentError: `oversample_thr` is not in (0, 1].

    Source: Gupta, Dollar, Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019, section
    5.2.
    """

    def __init__(self, dataset: Any, oversample_thr: float, lazy_init: bool = False) -> None:
        check_number("oversample_thr", oversample_thr, above=0, most=1)
        self.oversample_thr = oversample_thr
        self.dataset = DATASETS.build_nested(dataset, "dataset")
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Initializes the wrapped dataset and computes the repetitions. Later calls have no effect."""
        super().full_init()
        _ = self.repeat_indices

    @cached_property
    def repeat_indices(self) -> list[int]:
        """The index in the wrapped dataset for each sample."""
        indices = []
        categories = [set(_categories(self.dataset, idx)) for idx in range(len(self.dataset))]
        counts = Counter(chain.from_iterable(categories))
        for idx, of_sample in enumerate(categories):
            rarest = min((counts[category] for category in of_sample), default=len(categories))
            factor = math.sqrt(self.oversample_thr * len(categories) / rarest)
            indices += [idx] * math.ceil(max(1.0, factor))
        return indices

    def __len__(self) -> int:
        self.full_init()
        return len(self.repeat_indices)

    def _locate(self, idx: int) -> tuple[Any, int]:
        self.full_init()
        return self.dataset, self.repeat_indices[idx]


def _categories(dataset: Any, idx: int) -> list[Any]:
    """Returns the categories of a sample as a flat list of hashable values.

    Raises:
        ArgumentError: The dataset has no `get_cat_ids`, or a category is neither a number nor a string.
    """
    if not hasattr(dataset, "get_cat_ids"):
        advice = "Add a method get_cat_ids(idx) that returns the categories of a sample, such as [0, 2]."
        raise ArgumentError(f"the dataset '{type(dataset).__name__}' has no get_cat_ids", key="dataset", notes=[advice])
    categories = list(_flatten(dataset.get_cat_ids(idx)))
    # NaN is not equal to itself, so that each one would count as a category.
    if not all(isinstance(each, (str, Real)) and not isinstance(each, bool) and each == each for each in categories):
        raise ArgumentError(
            f"get_cat_ids of '{type(dataset).__name__}' must return indices or names of categories",
            found=categories,
            notes=["Return a list, such as [0, 2], or [] for a sample without categories."],
        )
    return categories


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, (Tensor, np.ndarray)):
        value = value.tolist()  # tensors are not equal as keys, even if they contain the same number
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        for item in value:
            yield from _flatten(item)
    else:
        yield value


def wrapped_datasets(dataset: Any) -> list[Any]:
    """Returns the datasets in a wrapper's attribute `dataset` or `datasets`, or an empty list if none exist."""
    several = getattr(dataset, "datasets", ())
    if not isinstance(several, (list, tuple)):  # an attribute of the user's own, such as an array
        several = ()
    return [*several, *([dataset.dataset] if hasattr(dataset, "dataset") else [])]


def innermost_datasets(dataset: Any) -> list[Any]:
    """Returns the datasets inside all wrappers, or the dataset itself if it is not a wrapper."""
    inner = wrapped_datasets(dataset)
    return [leaf for wrapped in inner for leaf in innermost_datasets(wrapped)] if inner else [dataset]


def count_skipped(dataset: Any) -> int:
    """Returns the number of samples that a dataset and its wrapped datasets have skipped."""
    skipped = getattr(dataset, "skipped", 0)
    return (skipped if isinstance(skipped, int) else 0) + sum(map(count_skipped, wrapped_datasets(dataset)))


def _metainfo(dataset: Any) -> dict[str, Any]:
    return dict(metainfo_in(dataset) or {})
