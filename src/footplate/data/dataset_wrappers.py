"""Datasets that wrap other datasets."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from torch.utils.data import Dataset

from footplate.checks import check_count
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.registry import DATASETS


class _Wrapper(Dataset[Any]):
    """A dataset that maps its indices to those of another dataset."""

    def __init__(self, dataset: Any, *, lazy_init: bool) -> None:
        self.dataset = _build(dataset, "dataset")
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict[str, Any]:
        """The metadata of the wrapped dataset."""
        return _metainfo(self.dataset)

    def full_init(self) -> None:
        """Initializes the wrapped dataset; later calls have no effect."""
        if not self._fully_initialized:
            _initialize(self.dataset)
            self._fully_initialized = True

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns the record of a sample."""
        found: dict[str, Any] = self.dataset.get_data_info(self._inner_index(idx))
        return found

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the category indices in a sample."""
        found: list[int] = self.dataset.get_cat_ids(self._inner_index(idx))
        return found

    def _inner_index(self, idx: int) -> int:
        raise NotImplementedError

    def __getitem__(self, idx: int) -> Any:
        return self.dataset[self._inner_index(idx)]


@DATASETS.register_module()
class ConcatDataset(Dataset[Any]):
    """Concatenates datasets.

    Args:
        datasets: Datasets, or configs for DATASETS.
        lazy_init: Whether to initialize them later, in `full_init`.
        ignore_keys: Keys of metainfo that may differ. The values of the first dataset are used.

    Raises:
        ArgumentError: There are none, or their metainfo differs.
    """

    def __init__(
        self,
        datasets: Sequence[Any],
        lazy_init: bool = False,
        ignore_keys: str | Sequence[str] | None = None,
    ) -> None:
        if not datasets:
            raise ArgumentError("there are no datasets to put together", key="datasets")
        self.datasets = [_build(each, f"datasets[{place}]") for place, each in enumerate(datasets)]
        self._ignored = {ignore_keys} if isinstance(ignore_keys, str) else set(ignore_keys or ())
        self._check_metainfo()
        self._ends: list[int] = []
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict[str, Any]:
        """The metadata of the first dataset."""
        return _metainfo(self.datasets[0])

    def full_init(self) -> None:
        """Initializes the datasets; later calls have no effect."""
        if not self._ends:
            for dataset in self.datasets:
                _initialize(dataset)
            self._ends = list(accumulate(len(dataset) for dataset in self.datasets))

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns the record of a sample."""
        dataset, inner = self._place(idx)
        found: dict[str, Any] = dataset.get_data_info(inner)
        return found

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the category indices in a sample."""
        dataset, inner = self._place(idx)
        found: list[int] = dataset.get_cat_ids(inner)
        return found

    def __len__(self) -> int:
        self.full_init()
        return self._ends[-1]

    def __getitem__(self, idx: int) -> Any:
        dataset, inner = self._place(idx)
        return dataset[inner]

    def _place(self, idx: int) -> tuple[Any, int]:
        idx = range(len(self))[idx]
        which = bisect_right(self._ends, idx)
        return self.datasets[which], idx - (self._ends[which - 1] if which else 0)

    def _check_metainfo(self) -> None:
        first = _metainfo(self.datasets[0])
        for place, dataset in enumerate(self.datasets[1:], 1):
            other = _metainfo(dataset)
            differing = [key for key in {**first, **other} if first.get(key) != other.get(key)]
            for key in differing:
                if key not in self._ignored:
                    raise ArgumentError(
                        f"the metainfo of datasets 0 and {place} differs in '{key}'",
                        key=f"datasets[{place}].metainfo.{key}",
                        found=other.get(key),
                        notes=[f"ignore_keys=['{key}'] takes that of the first"],
                    )


@DATASETS.register_module()
class RepeatDataset(_Wrapper):
    """Repeats a dataset, to make epochs over few samples longer.

    Args:
        dataset: A dataset, or a config for DATASETS.
        times: The number of repetitions.
        lazy_init: Whether to initialize the dataset later, in `full_init`.

    Raises:
        ArgumentError: `times` is not positive.
    """

    def __init__(self, dataset: Any, times: int, lazy_init: bool = False) -> None:
        self.times = check_count("times", times)
        super().__init__(dataset, lazy_init=lazy_init)

    def __len__(self) -> int:
        self.full_init()
        return self.times * len(self.dataset)

    def _inner_index(self, idx: int) -> int:
        return range(len(self))[idx] % len(self.dataset)


@DATASETS.register_module()
class ClassBalancedDataset(_Wrapper):
    """Repeats samples of rare categories.

    A sample is repeated ``max(1, sqrt(oversample_thr / f))`` times, rounded up, where f is the fraction of samples
    that contain its rarest category. The wrapped dataset must implement `get_cat_ids`.

    Source: Gupta, Dollar, Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation" (CVPR
    2019), 5.2.

    Args:
        dataset: A dataset, or a config for DATASETS.
        oversample_thr: The fraction of samples below which a category is rare.
        lazy_init: Whether to initialize the dataset later, in `full_init`.

    Raises:
        ArgumentError: `oversample_thr` is no share.
    """

    def __init__(self, dataset: Any, oversample_thr: float, lazy_init: bool = False) -> None:
        if not 0 < oversample_thr <= 1:
            raise ArgumentError("oversample_thr is a share of the samples", key="oversample_thr", found=oversample_thr)
        self.oversample_thr = oversample_thr
        self._indices: list[int] = []
        super().__init__(dataset, lazy_init=lazy_init)

    def full_init(self) -> None:
        """Initializes the wrapped dataset and counts its categories; later calls have no effect."""
        if self._fully_initialized:
            return
        super().full_init()
        categories = [set(self.dataset.get_cat_ids(idx)) for idx in range(len(self.dataset))]
        seen_in = Counter(category for each in categories for category in each)
        factors = {
            category: max(1.0, math.sqrt(self.oversample_thr * len(categories) / number))
            for category, number in seen_in.items()
        }
        for idx, each in enumerate(categories):
            times = math.ceil(max((factors[category] for category in each), default=1.0))
            self._indices += [idx] * times

    def __len__(self) -> int:
        self.full_init()
        return len(self._indices)

    def _inner_index(self, idx: int) -> int:
        self.full_init()
        return self._indices[idx]


def _build(dataset: Any, key: str) -> Any:
    if not isinstance(dataset, Mapping):
        return dataset
    with at_key(key):
        return DATASETS.build(dataset)


def _initialize(dataset: Any) -> None:
    if hasattr(dataset, "full_init"):
        dataset.full_init()


def _metainfo(dataset: Any) -> dict[str, Any]:
    return dict(getattr(dataset, "metainfo", {}))
