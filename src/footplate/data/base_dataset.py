"""The base class of datasets, which consist of a list of records and a pipeline that turns them into samples."""

import copy
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from torch.utils.data import Dataset
from typing_extensions import Self

from footplate.data.annotations import joined, load_annotations, read_lines
from footplate.data.compose import Compose, Transform
from footplate.data.kept_samples import KeptSamples
from footplate.data.record_store import RecordStore, give_back_memory
from footplate.data.shared_count import SharedCount
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.registry import DATASETS
from footplate.storage import missing_path_notes

_logger = logging.getLogger("footplate.data")
_LARGE = 1 << 20  # bytes
Indices: TypeAlias = int | Sequence[int]


@DATASETS.register_module()
class BaseDataset(Dataset[Any]):
    """A dataset that reads records from an annotation file and turns them into samples with a pipeline.

    A subclass overrides `load_data_list` to read other file formats, `parse_data_info` to convert records, and
    `filter_data` to select records. `METAINFO` holds metadata of the whole dataset, such as `classes`.

    Args:
        ann_file: The annotation file; a relative path is joined to `data_root`. See `load_annotations`.
        metainfo: Overrides entries of `METAINFO`. A value that is the path of a text file is replaced by its lines.
        data_root: The root folder of relative paths.
        data_prefix: The folder of the relative paths under each key of a record.
        filter_cfg: Settings for `filter_data`.
        indices: The indices of the records to keep, or a number n to keep the first n records, or the last -n if n is
            negative.
        serialize_data: Whether to store the records as bytes, which workers share; see `RecordStore`.
        pipeline: Transforms that are applied to a record in order.
        test_mode: Whether it is an error if the pipeline returns None. In training, another sample is used instead.
        lazy_init: Whether to read the annotation file later, in `full_init`.
        max_refetch: How many other samples to try after the pipeline returns None.
        keep_in_memory: The number of leading transforms whose results are kept in memory for every record, so that
            only the others are applied again. True stands for the leading transforms with `keepable = True`, such as
            those that load files. The `cache` of a data loader does the same, but checks the available memory first.
        on_error: "stop" or "skip". With "skip", a record that cannot be read is handled as if the pipeline returned
            None. It is counted in `skipped` and logged as a warning.

    Raises:
        DataError: The annotation file cannot be read.
        ArgumentError: An argument makes no sense.
    """

    METAINFO: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        ann_file: str | None = "",
        metainfo: Mapping[str, Any] | None = None,
        data_root: str | None = "",
        data_prefix: Mapping[str, str | None] | None = None,
        filter_cfg: Mapping[str, Any] | None = None,
        indices: Indices | None = None,
        serialize_data: bool = True,
        pipeline: Sequence[Transform | Mapping[str, Any]] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
        *,
        keep_in_memory: bool | int = False,
        on_error: Literal["stop", "skip"] = "stop",
    ) -> None:
        if on_error not in ("stop", "skip"):
            raise ArgumentError("on_error is 'stop' or 'skip'", key="on_error", found=on_error)
        self.data_root = data_root or ""
        self.ann_file = joined(self.data_root, ann_file) if ann_file else ""
        prefixes = {"img_path": ""} if data_prefix is None else data_prefix
        self.data_prefix = {key: joined(self.data_root, _prefix(key, value)) for key, value in prefixes.items()}
        self.filter_cfg = copy.deepcopy(filter_cfg)
        self.serialize_data = serialize_data
        self.test_mode = test_mode
        self.max_refetch = max_refetch
        self.on_error = on_error
        self._skipped = SharedCount()
        self.data_list: Sequence[Any] = []
        self._metainfo = {key: _from_file(key, value) for key, value in {**self.METAINFO, **(metainfo or {})}.items()}
        self._indices = indices
        self._fully_initialized = False
        with at_key("pipeline"):
            self.pipeline = Compose(pipeline)
        self._keep_in_memory = keep_in_memory
        self.kept: KeptSamples | None = None
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict[str, Any]:
        """A copy of the metadata of the whole dataset."""
        return copy.deepcopy(self._metainfo)

    @property
    def skipped(self) -> int:
        """The number of samples that were skipped because they could not be read, summed over all workers."""
        return self._skipped.value

    def full_init(self) -> None:
        """Reads the annotation file, filters the records and stores them; later calls have no effect.

        Raises:
            DataError: The annotation file cannot be read.
            ArgumentError: `indices` asks for records that are not there.
        """
        if self._fully_initialized:
            return
        self.data_list = self.load_data_list()
        self.data_list = self.filter_data()
        if self._indices is not None:
            self.data_list = [self.data_list[at] for at in _positions(self._indices, len(self.data_list))]
        if self.serialize_data:
            self.data_list = store = RecordStore(self.data_list)
            if store.num_bytes > _LARGE:
                give_back_memory()  # after the original records are freed
        self._fully_initialized = True
        if self._keep_in_memory:
            kept = KeptSamples(self.pipeline, self._keep_in_memory)
            kept.fill(self.first_samples(kept.first, range(len(self))))
            self.kept = kept

    def load_data_list(self) -> list[Any]:
        """Reads the annotation file and returns the records from `parse_data_info`.

        Raises:
            DataError: The file cannot be read, or holds something else.
        """
        if not self.ann_file:
            raise DataError(f"the dataset '{type(self).__name__}' has no ann_file", key="ann_file")
        with at_key("ann_file"):
            metainfo, records = load_annotations(self.ann_file)
        self._metainfo = {**metainfo, **self._metainfo}
        found: list[Any] = []
        for record in records:
            parsed = self.parse_data_info(record)
            found.extend(parsed if isinstance(parsed, list) else [parsed])
        return found

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
        """Converts a record of the annotation file to one record or a list of records.

        Args:
            raw_data_info: The record. Paths under the keys of `data_prefix` are joined to their prefix.

        Raises:
            DataError: It lacks a key of `data_prefix`.
        """
        for key, prefix in self.data_prefix.items():
            if key not in raw_data_info:
                raise DataError(
                    f"a record of '{self.ann_file}' lacks the key '{key}', which data_prefix names",
                    key="data_prefix",
                    found=list(raw_data_info),
                )
            raw_data_info[key] = joined(prefix, raw_data_info[key])
        return raw_data_info

    def filter_data(self) -> list[Any]:
        """Returns the records of `self.data_list` to keep; all of them by default."""
        return list(self.data_list)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns a copy of one record, with its index as `sample_idx`."""
        self.full_init()
        record = self.data_list[idx]
        found: dict[str, Any] = record if self.serialize_data else copy.deepcopy(record)
        found["sample_idx"] = idx if idx >= 0 else len(self) + idx
        return found

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the category indices in a sample; required by `ClassBalancedDataset`."""
        raise NotImplementedError(f"{type(self).__name__} does not override get_cat_ids()")

    def prepare_data(self, idx: int) -> Any:
        """Returns the sample that the pipeline makes from one record, or None if the pipeline drops it."""
        if self.kept is not None and self.kept.pipeline is self.pipeline:
            return self.kept[idx]
        return self.pipeline(self.get_data_info(idx))

    def first_samples(self, first: Transform, indices: Iterable[int]) -> Iterator[Any]:
        """Yields the results of the leading transforms for some records, None for skipped records; used by caches."""
        for idx in indices:
            yield self._readable(lambda at: first(self.get_data_info(at)), idx)

    def get_subset_(self, indices: Indices) -> None:
        """Keeps only some records.

        Args:
            indices: The indices of the records to keep, or a number n to keep the first n records, or the last -n if n
                is negative.

        Raises:
            ArgumentError: It asks for records that are not there.
        """
        self.full_init()
        chosen = _positions(indices, len(self))
        if isinstance(self.data_list, RecordStore):
            self.data_list = self.data_list.subset(chosen)
        else:
            self.data_list = [copy.deepcopy(self.data_list[at]) for at in chosen]
        if self.kept is not None:
            self.kept = self.kept.subset(chosen)

    def get_subset(self, indices: Indices) -> Self:
        """Returns a copy of this dataset with the records that `get_subset_` selects."""
        self.full_init()
        other = copy.copy(self)
        other._metainfo = self.metainfo
        other.get_subset_(indices)
        return other

    def __len__(self) -> int:
        self.full_init()
        return len(self.data_list)

    def __getitem__(self, idx: int) -> Any:
        self.full_init()
        for _ in range(self.max_refetch + 1):
            sample = self._readable(self.prepare_data, idx)
            if sample is not None:
                return sample
            if self.test_mode:
                raise DataError(f"the pipeline gave up sample {idx}, and a test wants every sample")
            idx = int(np.random.randint(len(self)))
        raise DataError(f"the pipeline gave up {self.max_refetch + 1} samples in a row")

    def _readable(self, read: Callable[[int], Any], idx: int) -> Any:
        """Returns the result of `read` for one record, or None if it cannot be read and may be skipped."""
        try:
            return read(idx)
        except (DataError, OSError) as error:
            if self.on_error == "stop" or self.test_mode:
                raise
            _logger.warning("sample %d is skipped, %d so far: %s", idx, self._skipped.add(), error)
            return None


def _prefix(key: str, value: str | None) -> str:
    if value is not None and not isinstance(value, str):
        raise ArgumentError("a prefix of paths is a string", key=f"data_prefix.{key}", found=value)
    return value or ""


def _from_file(key: str, value: Any) -> Any:
    is_file = isinstance(value, str) and os.path.isfile(value)
    if key == "classes" and isinstance(value, str) and not is_file:  # each character would become a class
        raise DataError(
            f"there is no file '{value}' of classes", key=f"metainfo.{key}", notes=missing_path_notes(value)
        )
    return read_lines(value) if is_file else copy.deepcopy(value)


def _positions(indices: Indices, size: int) -> Sequence[int]:
    """Returns the positions that `indices` selects in a list of length `size`."""
    if not isinstance(indices, int):
        if any(not -size <= at < size for at in indices):
            raise ArgumentError(f"indices asks for records beyond the {size} there are", key="indices")
        return [at % size for at in indices]
    return range(size)[:indices] if indices >= 0 else range(size)[indices:]
