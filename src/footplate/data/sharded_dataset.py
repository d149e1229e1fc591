"""The base class of datasets whose samples are in shards, which are large files, and a cache of remote shards."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import cached_property
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from footplate.checks import check_flag, check_number, check_path
from footplate.data.annotations import explain_read_errors, with_retries
from footplate.data.base_dataset import BaseDataset
from footplate.errors import ArgumentError, DataError, StorageError
from footplate.storage import (
    FileStatus,
    atomic_file,
    base_name,
    clean_stale,
    is_local,
    local_path,
    lock,
    open_file,
    read_pieces,
)

DEFAULT_FOLDER = os.path.join("~", ".cache", "footplate", "shards")
_ATTEMPTS = 5  # another process may remove a copy before it is opened
_USE_INTERVAL = 10.0  # seconds between two updates of the time at which a copy was last used
_LEAST_AGE = 1.0  # seconds; a younger copy is not removed, because the process that downloaded it has yet to open it
_WAIT_INTERVAL, _LONGEST_WAIT = 0.1, 60.0  # seconds to wait until other downloads have ended and space is free
_LONGEST_PAUSE = 600.0  # seconds; a download that has not written for longer was left by a dead process
_COPY_BYTES = 1 << 20
_LONGEST_NAME = 100  # characters of a name in the cache that are from the name of the shard
# The beginning of the name of a copy, or, with a dot, of an unfinished copy. No other file is counted or removed.
_COPY_NAME = re.compile(r"\.?[0-9a-f]{16}-(\d+)-\d+\.\d{6}-")
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


class ShardCache:
    """Downloads remote shards when they are first read, and removes the least recently used ones.

    A download that does not fit next to running downloads waits up to one minute for their end. The total size exceeds
    `max_bytes` only if they take longer, or if a single shard is larger.

    Args:
        folder: The folder for the copies.
        max_bytes: The maximum total size of the copies.
        shard_name: The word for a shard in error messages.
    """

    def __init__(self, folder: str, max_bytes: float, shard_name: str = "shard") -> None:
        self.folder = os.path.abspath(os.path.expanduser(folder))
        self.max_bytes = max_bytes
        self.shard_name = shard_name

    def path(self, url: str, tag: str = "") -> str:
        """Returns the path of the copy of a file; `tag` distinguishes versions of the file."""
        digest = hashlib.sha256(url.encode()).hexdigest()[:16]
        return os.path.join(self.folder, f"{digest}{tag}-{base_name(url)[-_LONGEST_NAME:]}")

    def open(self, shard: str, status: FileStatus) -> IO[Any]:
        """Opens a shard for reading. If the shard is remote, opens a local copy.

        Args:
            shard: The path or URL.
            status: Its size and modification time. Each version of a remote shard has its own copy.

        Raises:
            DataError: The shard does not exist.
            StorageError: The shard cannot be downloaded completely after several attempts, or the copy cannot be
                written.
            OSError: The shard or the copy cannot be opened.
        """
        if is_local(shard):
            return open_file(local_path(shard))
        path = self.path(shard, f"-{status.size}-{status.modified:.6f}")
        for _ in range(_ATTEMPTS):
            if not os.path.exists(path):
                try:
                    with lock(path):
                        if not os.path.exists(path):  # no other process has downloaded it in the meantime
                            self._download(shard, path, status.size)
                except OSError as error:
                    raise StorageError(
                        f"the {self.shard_name} '{shard}' cannot be copied to '{self.folder}': {error}",
                        notes=["Set cache_dir to a folder that can be written and has enough free space."],
                    ) from error
            with suppress(FileNotFoundError):
                stream = open_file(path)
                found = os.fstat(stream.fileno())
                if found.st_size != status.size:  # the copy was changed
                    stream.close()
                    os.unlink(path)
                    continue
                if time.time() - found.st_mtime > _USE_INTERVAL:
                    with suppress(FileNotFoundError):
                        os.utime(path)
                return stream
        raise StorageError(
            f"other processes remove the copy of the {self.shard_name} '{shard}' as soon as it is downloaded",
            found=f"cache_gb={self.max_bytes / 1e9:g}",
            notes=[
                f"Increase cache_gb, so that the cache holds all {self.shard_name}s that are read at the same time."
            ],
        )

    def _download(self, shard: str, path: str, size: int) -> None:
        try:
            with_retries(lambda url: self._copy(url, path, size), shard)
        except ConnectionError:  # after the last retry
            with explain_read_errors(self.shard_name, shard):
                raise

    def _read_pieces(self, shard: str) -> Iterator[bytes]:
        """Yields the content of a shard. A ConnectionError is raised as it is, so that the download is repeated."""
        try:
            yield from read_pieces(shard, _COPY_BYTES)
        except ConnectionError:
            raise
        except OSError:
            with explain_read_errors(self.shard_name, shard):
                raise

    def _copy(self, shard: str, path: str, size: int) -> None:
        with ExitStack() as stack:
            target, until = None, time.monotonic() + _LONGEST_WAIT
            while target is None:
                clean_stale(self.folder)
                with self._lock():  # no other process reserves the same space
                    if self._make_room(size, force=time.monotonic() > until):
                        target = stack.enter_context(atomic_file(path, reserve=size))
                if target is None:
                    time.sleep(_WAIT_INTERVAL)
            copied = sum(map(target.write, self._read_pieces(shard)))
            if copied != size:
                raise ConnectionError(f"the storage sent {copied} bytes instead of {size}")
            with self._lock():  # a process that adds up the sizes could miss a file that is renamed
                stack.close()

    def _lock(self) -> AbstractContextManager[None]:
        return lock(os.path.join(self.folder, "removal"))

    def _make_room(self, size: int, *, force: bool) -> bool:
        """Removes the least recently used copies until `size` more bytes fit.

        Returns False, and removes nothing, if running downloads and new copies, which are not removed, use the space.
        With `force`, removes as many copies as possible instead.
        """
        now, total, copies = time.time(), size, []
        for entry in os.scandir(self.folder):
            name = _COPY_NAME.match(entry.name)
            if name is None:
                continue
            is_running = entry.name.startswith(".")
            try:
                found = entry.stat()
            except FileNotFoundError:
                total += int(name.group(1)) if is_running else 0  # a download that ended was renamed to a copy
                continue
            age = now - found.st_mtime
            if is_running:
                total += found.st_size if age < _LONGEST_PAUSE else 0  # a running download has its full size
            elif age < _LEAST_AGE:
                total += found.st_size
            else:
                copies.append((found.st_mtime, found.st_size, entry.path))
        if self.max_bytes < total != size and not force:
            return False
        for _, used, path in sorted(copies, reverse=True):  # last used first
            if total + used <= self.max_bytes:
                total += used
            else:
                with suppress(FileNotFoundError):
                    os.unlink(path)
        return True
