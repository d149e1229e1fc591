"""The base class of datasets whose samples are stored in shards: large files that contain many samples."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from footplate.checks import check_flag, check_number, check_path
from footplate.data.base_dataset import BaseDataset
from footplate.data.shard_cache import DEFAULT_FOLDER, ShardCache
from footplate.errors import ArgumentError, DataError
from footplate.storage import base_name

_WITHOUT_EFFECT = ("ann_file", "data_prefix", "filter_cfg")  # arguments of `BaseDataset`


class StoredSample(NamedTuple):
    """A sample that was read from a shard.

    Attributes:
        shard: The path or URL of the shard.
        key: The name of the sample in the shard.
        values: Items to add to the record.
        files: Maps keys of the record to the path and the content of a file that a transform loads.
    """

    shard: str
    key: str
    values: dict[str, Any]
    files: dict[str, tuple[str, bytes]]


class ShardedDataset(BaseDataset):
    """A dataset whose samples are in shards, on disk or in an object store, and can be read in any order.

    The first item of each entry of `data_list` is the index of its shard. Remote shards are copied to a local cache
    when they are read.

    Args:
        fields: Maps keys of a record to names in a shard; `;` separates alternatives.
        data_root: The folder or URL to which relative paths are joined.
        metainfo: Metadata about the dataset, such as `classes`.
        cache_dir: The folder for copies of remote shards, and for indexes that cannot be written next to the shards.
        cache_gb: The maximum size of the copies in GB. It must hold all shards that are read at the same time.
        ignore_index: The label of ignored pixels in label maps.
        reduce_zero_label: Whether to ignore label 0 of label maps and to decrease all other labels by one.
        settings: Arguments for `BaseDataset`: `pipeline`, `indices`, `test_mode`, `on_error` ...

    Raises:
        ArgumentError: An argument is invalid.
    """

    makes_samples = True  # a record is read from its shard
    shard_name = "shard"  # the word for a shard in error messages

    def __init__(
        self,
        fields: Mapping[str, str] | None = None,
        data_root: str | None = "",
        metainfo: Mapping[str, Any] | None = None,
        *,
        cache_dir: str = DEFAULT_FOLDER,
        cache_gb: float = 50.0,
        ignore_index: int = 255,
        reduce_zero_label: bool = False,
        **settings: Any,
    ) -> None:
        check_number("cache_gb", cache_gb, above=0)
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
            raise ArgumentError("ignore_index must be an integer", key="ignore_index", found=ignore_index)
        for name in _WITHOUT_EFFECT:
            if settings.get(name):
                raise ArgumentError(
                    f"{name} has no effect on {type(self).__name__}",
                    key=name,
                    found=settings[name],
                    notes=["Remove it. `fields` selects the values of a sample, and `indices` selects samples."],
                )
        if fields is not None and not (isinstance(fields, Mapping) and all(isinstance(key, str) for key in fields)):
            message = "fields must be a dict that maps keys of a record to names in the shards"
            raise ArgumentError(message, key="fields", found=fields)
        for key, names in (fields or {}).items():
            if not isinstance(names, str) or not names.strip(";"):
                message = "a field must be a name in the shards, or several separated by ';'"
                raise ArgumentError(message, key=f"fields.{key}", found=names)
        if fields is not None and not fields:
            raise ArgumentError("fields must contain at least one field", key="fields", found=fields)
        self.fields = None if fields is None else {key: split_names(each) for key, each in fields.items()}
        self.cache = ShardCache(check_path("cache_dir", cache_dir), 1e9 * cache_gb, self.shard_name)
        self.ignore_index = ignore_index
        self.reduce_zero_label = check_flag("reduce_zero_label", reduce_zero_label)
        super().__init__(metainfo=metainfo, data_root=data_root, **settings)

    def read_sample(self, *entry: Any) -> StoredSample:
        """Reads the sample of an entry of `data_list` from its shard.

        Raises:
            DataError: The shard is missing or damaged, or a value cannot be parsed.
        """
        raise NotImplementedError(f"{type(self).__name__} does not override read_sample()")

    def read_label(self, *entry: Any) -> StoredSample:
        """Reads at least the label of a sample, `gt_label`. By default, reads the whole sample; see `read_sample`."""
        return self.read_sample(*entry)

    def filter_data(self) -> Any:
        """Returns all records."""
        return self.data_list

    def shard_list(self) -> list[tuple[str, int, int]]:
        """Returns the path, the size in bytes and the number of samples of each shard, after `load_data_list`.

        By default, the list is empty. A resumed run then does not check whether the shards have changed.
        """
        return []

    @cached_property
    def digest(self) -> str | None:
        """The SHA-256 of the names, the sizes and the numbers of samples of all shards, in order, or None if unknown.

        A run that is resumed compares it with that in the checkpoint; see `DataPosition`.
        """
        self.full_init()
        content = [(base_name(path), size, samples) for path, size, samples in self.shard_list()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest() if content else None

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Reads a sample and returns its record. `file_contents` maps each key of a path to the bytes of the file."""
        self.full_init()
        return self._create_record(idx, self.read_sample(*self.data_list[idx]))

    def _create_record(self, idx: int, sample: StoredSample) -> dict[str, Any]:
        record: dict[str, Any] = {}
        if self._metainfo.get("classes") is not None:
            record["num_classes"] = len(self._metainfo["classes"])
        if "seg_map_path" in sample.files:
            record |= {"ignore_index": self.ignore_index, "reduce_zero_label": self.reduce_zero_label}
        record |= sample.values | {name: path for name, (path, _) in sample.files.items()}
        label, count = record.get("gt_label"), record.get("num_classes")
        if isinstance(label, int) and count is not None and not 0 <= label < count:
            message = f"the class of the sample '{sample.key}' in the {self.shard_name} '{sample.shard}' must be"
            raise DataError(f"{message} from 0 to {count - 1}", found=label)
        idx = idx if idx >= 0 else len(self) + idx
        contents = {name: content for name, (_, content) in sample.files.items()}
        return {**record, "sample_idx": idx, "sample_key": sample.key, "file_contents": contents}

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the class of a sample.

        Raises:
            KeyError: The sample has no `gt_label`.
        """
        self.full_init()
        return [int(self._create_record(idx, self.read_label(*self.data_list[idx]))["gt_label"])]

    def shard_numbers(self) -> NDArray[np.int32]:
        """Returns the index of each sample's shard, ``(N,)``. A sampler with `shard_window` calls this method."""
        self.full_init()
        return np.fromiter((each[0] for each in self.data_list), dtype=np.int32, count=len(self.data_list))


def split_names(names: str) -> list[str]:
    """Splits a string at `;` and returns the non-empty names.

    Example:
        >>> split_names("jpg; png;")
        ['jpg', 'png']
    """
    return [each.strip() for each in names.split(";") if each.strip()]
