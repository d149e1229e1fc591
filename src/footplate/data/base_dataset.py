"""Base class for datasets that turn a list of records into samples with a pipeline."""

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import Self

from footplate.checks import check_choice, check_count
from footplate.data.annotations import Record, join_root, load_annotations, read_lines
from footplate.data.shared_memory import RecordStore
from footplate.data.transforms.pipeline import Compose, Transform
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError, StorageError
from footplate.messages import nearest
from footplate.registry import DATASETS
from footplate.storage import missing_path_notes

_logger = logging.getLogger("footplate.data")
_MAX_UNREADABLE = 0.5  # the maximum fraction of unreadable samples
_MIN_UNREADABLE = 10  # this many unreadable samples are always allowed
_MAX_FLAGS = 1 << 20
Indices: TypeAlias = int | Sequence[int]


class UnusableDatasetError(DataError):
    """Raised instead of a sample if most samples of a dataset cannot be read."""


@DATASETS.register_module()
class BaseDataset(Dataset[Any]):
    """A dataset that reads records from an annotation file and turns them into samples with a pipeline.

    Subclasses override `load_data_list` to read other file formats, `parse_data_info` to convert records, or
    `filter_data` to select records. `METAINFO` contains dataset metadata, such as `classes`.

    Args:
        ann_file: The annotation file; a relative path is joined to `data_root`. See `load_annotations`.
        metainfo: Values that override `METAINFO`, which overrides the metainfo in the annotation file. The path of a
            text file is replaced with the list of its lines.
        data_root: The base folder for relative paths.
        data_prefix: Maps record keys to folders, which are prepended to relative paths under these keys. Every record
            must have these keys. Defaults to `dict(img_path="")`.
        filter_cfg: Settings for `filter_data`.
        indices: The indices of the records to keep, or a number: n keeps the first n records, and -n the last n.
        serialize_data: Whether to store the records as bytes that all workers share; see `RecordStore`.
        pipeline: Transforms to apply to each record, in order.
        test_mode: Whether to raise an error if the pipeline returns None. Otherwise, another random sample is used.
        lazy_init: Whether to defer reading the annotation file until `full_init` is called or the dataset is used.
        max_refetch: The maximum number of other samples to try if the pipeline returns None or a sample is skipped.
        on_error: "stop" or "skip". "skip" replaces an unreadable sample with another one, logs a warning and updates
            `skipped`. The run still stops if most samples cannot be read, or if storage cannot be reached. "skip" has
            no effect if `test_mode` is set.
        backend_args: Accepted for compatibility and ignored; the URL of a file determines the storage backend.

    Raises:
        DataError: The annotation file cannot be read.
        ArgumentError: An argument is invalid.
    """

    METAINFO: ClassVar[Mapping[str, Any]] = {}
    # Defaults for datasets in OpenMMLab packages that set these attributes without calling the constructor.
    data_prefix: dict[str, Any]
    _fully_initialized = False
    _skipped: Tensor | None = None

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
        on_error: Literal["stop", "skip"] = "stop",
        backend_args: Mapping[str, Any] | None = None,
    ) -> None:
        check_choice("on_error", on_error, ("stop", "skip"))
        self.data_root = data_root or ""
        self.ann_file = ann_file or ""
        self.data_prefix = dict({"img_path": ""} if data_prefix is None else data_prefix)
        self.filter_cfg = copy.deepcopy(filter_cfg)
        self.serialize_data = serialize_data
        self.test_mode = test_mode
        self.max_refetch = check_count("max_refetch", max_refetch, least=0)
        self._skipped = _shared_flags() if on_error == "skip" else None  # before the workers start
        self.data_list: Sequence[Any] = []
        self._metainfo = self._load_metainfo(metainfo)
        self._indices = indices
        self._join_prefix()
        with at_key("pipeline"):
            self.pipeline = Compose(pipeline)
        if not lazy_init:
            self.full_init()

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns `METAINFO` updated with `metainfo`. If a value is the path of a text file, uses the file's lines."""
        known = ("classes", "palette", *cls.METAINFO)
        for key in metainfo or {}:
            near = nearest(key, known, is_typo=True)  # datasets may have keys such as 'base_classes'
            if near is None or key in known:
                continue
            if str(key).lower() != near.lower():
                raise ArgumentError(f"unknown metainfo key '{key}'", key=f"metainfo.{key}", suggestion=near)
            # Not an error, because MMDetection ignores CLASSES, too, so published configs may contain it.
            _logger.warning("metainfo has the key '%s', but datasets read '%s'. Rename the key.", key, near)
        values = copy.deepcopy({**cls.METAINFO, **(metainfo or {})})
        for key, value in values.items():
            if isinstance(value, str) and os.path.isfile(value):
                values[key] = read_lines(value)
            elif key == "classes" and isinstance(value, str):  # each character would become a class
                if not value.isidentifier():
                    message = (
                        f"classes must be a list of names or the path of a text file, but there is no file '{value}'"
                    )
                    raise DataError(message, key=f"metainfo.{key}", notes=missing_path_notes(value))
                # ('person') instead of ('person',), as in published code
                _logger.warning("metainfo.classes is the string '%s'. It becomes a list with one class.", value)
                values[key] = (value,)
        return values

    def _join_prefix(self) -> None:
        """Joins the paths in `ann_file` and `data_prefix` to `data_root`."""
        if self.ann_file:
            self.ann_file = join_root(self.data_root, self.ann_file)
        for key, prefix in self.data_prefix.items():
            self.data_prefix[key] = join_root(self.data_root, prefix or "")

    @property
    def metainfo(self) -> dict[str, Any]:
        """A copy of the dataset's metadata."""
        return copy.deepcopy(self._metainfo)

    @property
    def skipped(self) -> int:
        """The number of distinct unreadable samples that have been skipped across all workers."""
        return 0 if self._skipped is None else int(self._skipped.sum())

    @property
    def skips_errors(self) -> bool:
        """Whether unreadable samples are skipped, rather than being errors."""
        return self._skipped is not None and not self.test_mode

    def full_init(self) -> None:
        """Reads the annotation file, filters the records and stores them. Later calls have no effect."""
        if self._fully_initialized:
            return
        self.data_list = self.load_data_list()
        self.data_list = self.filter_data()
        if self._indices is not None:
            self.data_list = self._get_unserialized_subset(self._indices)
        if self.serialize_data:
            self._serialize_data()
        self._fully_initialized = True

    def _get_unserialized_subset(self, indices: Indices) -> list[Any]:
        """Returns the selected records. `indices` has the same meaning as in the constructor."""
        return [self.data_list[index] for index in _select_indices(indices, len(self.data_list))]

    def _serialize_data(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Serializes the records. Returns their bytes and the end offset of each record."""
        self.data_list = store = RecordStore(self.data_list)
        return store.arrays

    def load_data_list(self) -> list[Any]:
        """Reads the annotation file, converts its records with `parse_data_info`, and returns them."""
        if not self.ann_file:
            note = "Set ann_file, or override load_data_list()."
            raise DataError(f"the dataset '{type(self).__name__}' has no ann_file", key="ann_file", notes=[note])
        with at_key("ann_file"):
            metainfo, records = load_annotations(self.ann_file)
        self._metainfo = {**metainfo, **self._metainfo}
        data_list: list[Any] = []
        for record in records:
            parsed = self.parse_data_info(record)
            data_list.extend(parsed if isinstance(parsed, list) else [parsed])
        return data_list

    def parse_data_info(self, raw_data_info: Record) -> Record | list[Record]:
        """Converts a raw record to one or more records of the dataset.

        By default, only prepends `data_prefix` to the paths in the record. Raises a DataError if the record lacks a key
        of `data_prefix`.
        """
        for key, prefix in self.data_prefix.items():
            if key not in raw_data_info:
                raise DataError(
                    f"a record in '{self.ann_file}' lacks '{key}', which is a key of data_prefix",
                    key="data_prefix",
                    found=self.data_prefix,
                    notes=[
                        f"The record has the keys {', '.join(map(str, raw_data_info))}. Use those that contain paths "
                        "as the keys of data_prefix. The default is dict(img_path='')."
                    ],
                )
            raw_data_info[key] = join_root(prefix, raw_data_info[key])
        return raw_data_info

    def filter_data(self) -> list[Any]:
        """Returns the records in `self.data_list` to keep. By default, keeps all records."""
        return list(self.data_list)

    def get_data_info(self, idx: int) -> Record:
        """Returns a copy of one record, with its index stored as `sample_idx`."""
        self.full_init()
        record: Record = self.data_list[idx]
        if not self.serialize_data:
            record = copy.deepcopy(record)
        record["sample_idx"] = idx if idx >= 0 else len(self) + idx
        return record

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the indices of a sample's categories: by default its `gt_label`, a class index or a list of them.

        If the records have no `gt_label`, subclasses must override this method for `ClassBalancedDataset`.
        """
        record = self.get_data_info(idx)
        if "gt_label" not in record:
            raise NotImplementedError(f"{type(self).__name__} does not override get_cat_ids()")
        return np.ravel(record["gt_label"]).tolist()  # type: ignore[no-any-return]

    def prepare_data(self, idx: int) -> Any:
        """Runs the pipeline on one record. Returns the sample, or None if the pipeline dropped it."""
        return self.pipeline(self.get_data_info(idx))

    def get_subset_(self, indices: Indices) -> None:
        """Keeps only the selected records. `indices` has the same meaning as in the constructor."""
        self.full_init()
        selected = _select_indices(indices, len(self))
        if isinstance(self.data_list, RecordStore):
            self.data_list = self.data_list.subset(selected)
        else:
            self.data_list = [copy.deepcopy(self.data_list[index]) for index in selected]
        if self._skipped is not None:
            self._skipped = _shared_flags()  # indices now refer to other samples

    def get_subset(self, indices: Indices) -> Self:
        """Returns a copy of the dataset with only the selected records. `indices` has the constructor's meaning."""
        self.full_init()
        subset = copy.copy(self)
        subset._metainfo = self.metainfo
        subset.get_subset_(indices)
        return subset

    def __len__(self) -> int:
        self.full_init()
        return len(self.data_list)

    def __getitem__(self, idx: int) -> Any:
        self.full_init()
        errors: list[Exception] = []
        for _ in range(self.max_refetch + 1):
            sample = self._read_or_skip(idx, errors)
            if sample is not None:
                return sample
            if self.test_mode:
                message = f"the pipeline dropped sample {idx}, but test_mode needs every sample"
                raise DataError(message + self._reason_for_dropping())
            idx = self._rand_another()
        reason = f". The first error is: {errors[0]}" if errors else self._reason_for_dropping()
        raise DataError(f"no usable sample was found with max_refetch={self.max_refetch}{reason}")

    def _rand_another(self) -> int:
        """Returns the index of a random sample. Subclasses override and call it, so its name is MMEngine's."""
        return int(np.random.randint(len(self)))

    def _reason_for_dropping(self) -> str:
        """Describes the transform that dropped the last sample, or returns "" if it is unknown."""
        index = getattr(self.pipeline, "dropped_at", None)  # subclasses may have another kind of pipeline
        if index is None:
            return ""
        transform = self.pipeline.transforms[index]
        name = getattr(transform, "__name__", type(transform).__name__)
        place = f"the transform '{name}' (pipeline[{index}])"
        return f": {place} returned None. If it should keep the sample, end it with `return results`"

    def _read_or_skip(self, idx: int, errors: list[Exception]) -> Any:
        """Returns a sample. If reading fails and `on_error` is "skip", adds the error to `errors` and returns None."""
        try:
            return self.prepare_data(idx)
        except (StorageError, ConnectionError):  # the samples themselves may be fine
            raise
        except (DataError, OSError) as error:
            if self._skipped is None or self.test_mode:  # not `skips_errors`, for the type checker
                raise
            errors.append(error)
            flag = idx % _MAX_FLAGS
            if not self._skipped[flag]:  # otherwise, a warning was logged in an earlier epoch
                self._skipped[flag] = True
                _warn_about_skipped(idx, error)
                skipped = self.skipped
                if skipped > max(_MIN_UNREADABLE, _MAX_UNREADABLE * len(self)):
                    raise UnusableDatasetError(
                        f"{skipped} of {len(self)} samples of '{type(self).__name__}' cannot be read, which is too "
                        f"many to skip. The last one: {error}",
                        notes=["Repair the samples. on_error='skip' is meant for a few."],
                    ) from error
            return None

    def repeat_skip_warnings(self) -> None:
        """Logs in this process the warnings about the samples that workers have skipped."""
        for idx in () if self._skipped is None else self._skipped.nonzero().flatten().tolist():
            try:
                self.prepare_data(idx)
            except (DataError, OSError) as error:
                _warn_about_skipped(idx, error)
            else:
                _warn_about_skipped(idx, "it could not be read at the first attempt")


def _warn_about_skipped(idx: int, error: object) -> None:
    found = f", found: {error.found}" if isinstance(error, DataError) and error.has_found else ""
    _logger.warning("Skipping sample %d: %s%.200s", idx, getattr(error, "message", error), found)


def _shared_flags() -> Tensor:
    """Creates 2**20 per-sample flags in shared memory. Samples whose indices are equal modulo 2**20 share a flag."""
    flags = torch.zeros(_MAX_FLAGS, dtype=torch.bool, device="cpu")
    flags.share_memory_()  # type: ignore[no-untyped-call]
    return flags


def _select_indices(indices: Indices, size: int) -> Sequence[int]:
    """Converts `indices` to a sequence of non-negative indices below `size`."""
    if isinstance(indices, (int, np.integer)):
        return range(size)[:indices] if indices >= 0 else range(size)[indices:]
    chosen = np.asarray(indices, dtype=None if len(indices) else int)
    return np.arange(size)[chosen].tolist()  # type: ignore[no-any-return]  # raises IndexError if out of range
