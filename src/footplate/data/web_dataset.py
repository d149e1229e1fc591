"""A dataset of WebDataset shards: tar files that contain the files of many samples."""

import io
import itertools
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np

from footplate.checks import check_path
from footplate.data.annotations import explain_read_errors, join_root, with_retries
from footplate.data.shard_index import Member, ShardIndex, ShardSample, check_header, load_index
from footplate.data.sharded_dataset import ShardedDataset, StoredSample, split_names
from footplate.data.shared_memory import RecordStore
from footplate.distributed import get_rank, get_world_size
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.registry import DATASETS
from footplate.storage import absolute, base_name, join, list_dir, missing_path_notes

_logger = logging.getLogger("footplate.data")
_HEADER = 512  # bytes before the content of a file in a tar archive
_THREADS = 8  # for loading indexes
_MOST_SHARDS = 1_000_000
# Includes compressed shards, so that `scan_shard` raises an error for those in a folder.
_SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_IMAGES = "jpg;jpeg;png;webp;bmp;ppm;pgm;tif;tiff"
_USUAL_FIELDS = {"img_path": _IMAGES, "seg_map_path": "seg.png;mask.png", "gt_label": "cls", "record": "json"}


_PARSERS: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(("cls", "cls2", "class", "count", "index", "inx", "id"), int),
    **dict.fromkeys(("txt", "text"), bytes.decode),
    **dict.fromkeys(("json", "jsn"), json.loads),
    "npy": lambda content: np.lib.format.read_array(io.BytesIO(content), allow_pickle=False),
}


@DATASETS.register_module()
class WebDataset(ShardedDataset):
    """A dataset of WebDataset shards, on disk or in an object store. Samples can be read in any order.

    The files of a sample are next to each other in a shard. Their names are the same up to the first dot; this part is
    the key of the sample. On first use, each shard is indexed; see `load_index`. Remote shards are copied to a local
    cache when they are read.

    Args:
        shards: The paths or URLs of the shards: a list, a folder, or a pattern such as `train-{0000..0099}.tar`.
        fields: Maps keys of a record to extensions; `;` separates alternatives. If a key ends in `_path`, the
            transforms of the pipeline load the file. Other files are parsed according to their extension: `cls`,
            `index` and `id` are integers, `txt` is text, `json` is JSON, `npy` is an array, and all others are bytes.
            The items of a JSON object under `record` are added to the record. Every sample must have all fields. By
            default, `img_path` is the image. Three more keys are read from every sample if the first sample has them:
            `seg_map_path` from `seg.png` or `mask.png`, `gt_label` from `cls`, and `record` from `json`.
        data_root: The folder or URL to which relative paths are joined.
        metainfo: Metadata about the dataset, such as `classes`.
        cache_dir: The folder for copies of remote shards, and for indexes that cannot be written next to the shards.
        cache_gb: The maximum size of the copies in GB. It must hold all shards that are read at the same time.
        ignore_index: The label of ignored pixels in label maps.
        reduce_zero_label: Whether to ignore label 0 of label maps and to decrease all other labels by one.
        settings: Arguments for `BaseDataset`: `pipeline`, `indices`, `test_mode`, `on_error` ...

    Raises:
        DataError: A shard is missing, damaged or does not match its index, or a sample lacks a field.
        ArgumentError: An argument is invalid.
    """

    def __init__(
        self,
        shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        fields: Mapping[str, str] | None = None,
        data_root: str | None = "",
        metainfo: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.shards = expand_shards(shards, check_path("data_root", data_root, optional=True))
        self._indexes: list[ShardIndex] = []  # without samples, which are in the records
        self._counts: list[int] = []  # samples per shard
        super().__init__(fields, data_root, metainfo, **settings)

    def load_data_list(self) -> Any:
        """Loads or creates the indexes of all shards; returns a record of (shard, key, members) for each sample."""
        # Each rank begins with a different shard, so that the ranks share the work of creating indexes.
        order = np.roll(np.arange(len(self.shards)), -(len(self.shards) * get_rank() // get_world_size())).tolist()
        # On exit, the pool does not wait for its threads, so that Ctrl-C and errors end a slow download at once.
        with at_key("shards"), ThreadPool(_THREADS) as pool:
            loaded = pool.imap(lambda number: load_index(self.shards[number], self.cache), order)
            indexes = [index for _, index in sorted(zip(order, loaded, strict=True))]
        self._indexes = [each._replace(samples=[]) for each in indexes]
        self._counts = [len(each.samples) for each in indexes]
        if self.fields is None:
            first, usual = indexes[0].samples[0], {key: split_names(each) for key, each in _USUAL_FIELDS.items()}
            self.fields = {key: each for key, each in usual.items() if not first.members.keys().isdisjoint(each)}
            if "img_path" not in self.fields:
                raise _missing_field("img_path", usual["img_path"], self.shards[0], first)
        self.fields = {key: [each.lower().removeprefix(".") for each in names] for key, names in self.fields.items()}
        return RecordStore(self._records(indexes))

    def read_sample(self, *entry: Any) -> StoredSample:
        """Reads the files of a sample; see `ShardedDataset.read_sample`."""
        number, key, files = entry
        members = {field: Member(*each) for field, each in files.items()}
        shard = self.shards[number]
        found = self._read(number, members) if members else {}
        sample = StoredSample(shard, key, {}, {})
        if "record" in found:  # first, so that other fields replace its items
            sample.values.update(_parse("record", found.pop("record"), members["record"], shard))
        for name, content in found.items():
            if name.endswith("_path"):
                sample.files[name] = join(shard, members[name].name), content
            else:
                sample.values[name] = _parse(name, content, members[name], shard)
        return sample

    def read_label(self, *entry: Any) -> StoredSample:
        """Reads the file of a sample that contains its label, and not its image; see `ShardedDataset.read_label`."""
        number, key, files = entry
        field = "gt_label" if "gt_label" in files else "record"
        return self.read_sample(number, key, {field: files[field]} if field in files else {})

    def shard_list(self) -> list[tuple[str, int, int]]:
        """Returns the path, the size and the number of samples of each shard; see `ShardedDataset.shard_list`."""
        sizes = [each.status.size for each in self._indexes]
        return list(zip(self.shards, sizes, self._counts, strict=True))

    def _records(self, indexes: Sequence[ShardIndex]) -> Iterator[tuple[int, str, dict[str, tuple[Any, ...]]]]:
        for number, index in enumerate(indexes):
            for sample in index.samples:
                members = {}
                for field, extensions in (self.fields or {}).items():
                    extension = next((each for each in extensions if each in sample.members), None)
                    if extension is None:
                        raise _missing_field(field, extensions, self.shards[number], sample)
                    members[field] = tuple(sample.members[extension])  # smaller and faster than a class when pickled
                yield number, sample.key, members

    def _read(self, number: int, members: Mapping[str, Member]) -> dict[str, bytes]:
        """Returns the contents of files that are next to each other in a shard."""
        shard, index = self.shards[number], self._indexes[number]
        begin = min(each.offset for each in members.values()) - _HEADER
        end = max(each.offset + each.size for each in members.values())
        try:
            with self.cache.open(shard, index.status) as stream:
                stream.seek(begin)
                data = stream.read(end - begin)
        except OSError as error:
            raise DataError(f"the shard '{shard}' cannot be read at offset {begin}: {error}") from error
        found = {}
        for field, member in members.items():
            at = member.offset - begin
            check_header(data[at - _HEADER : at], member, shard, index.path)
            found[field] = data[at : at + member.size]
            if len(found[field]) < member.size:
                raise DataError(f"the shard '{shard}' is incomplete: it ends at offset {begin + len(data)}")
        return found


def expand_shards(shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], root: str = "") -> list[str]:
    """Returns the paths of shards.

    Args:
        shards: A list of paths, a folder, or a path with ranges of numbers in braces.
        root: The folder or URL to which relative paths are joined.

    Raises:
        DataError: There are no shards.
        ArgumentError: `shards` is neither a path nor a list of paths, or a range is reversed.

    Example:
        >>> expand_shards("a-{08..10}.tar", "data")
        ['data/a-08.tar', 'data/a-09.tar', 'data/a-10.tar']
    """
    several = [shards] if isinstance(shards, str | os.PathLike) else shards
    if not isinstance(several, Sequence) or not all(isinstance(each, str | os.PathLike) and each for each in several):
        raise ArgumentError("shards must be a path or a list of paths", key="shards", found=shards)
    found = [path for each in several for path in _expand(join_root(root, os.fspath(each)))]
    if not found:
        raise DataError("there are no shards", key="shards", found=shards)
    pairs = itertools.pairwise(sorted(found, key=absolute))
    twice = next((one for one, other in pairs if absolute(one) == absolute(other)), None)
    if twice is not None:
        raise ArgumentError(f"the shard '{twice}' is listed twice", key="shards", found=shards)
    return found


def _expand(path: str) -> list[str]:
    ranges = []
    for match in _RANGE.finditer(path):
        first, last = match.groups()
        width = len(first) if first.startswith("0") else 0
        numbers = range(int(first), int(last) + 1)
        if not 0 < len(numbers) <= _MOST_SHARDS:
            raise ArgumentError(f"the range '{match.group()}' of shards is empty or too long", key="shards", found=path)
        ranges.append([f"{number:0{width}d}" for number in numbers])
    if math.prod(map(len, ranges)) > _MOST_SHARDS:
        raise ArgumentError("the ranges of shards are too long", key="shards", found=path)
    if ranges:
        parts = _RANGE.split(path)[::3]
        return [
            "".join(itertools.chain(*zip(parts, [*numbers, ""], strict=True))) for numbers in itertools.product(*ranges)
        ]
    if base_name(path).lower().endswith(_SUFFIXES):
        return [path]
    with explain_read_errors("folder", path):
        try:
            found = with_retries(list_dir, path)
        except (FileNotFoundError, NotADirectoryError) as error:
            notes = missing_path_notes(path) or [str(error)]
            raise DataError(f"'{path}' is neither a .tar file nor a folder", key="shards", notes=notes) from error
    names = [name for name in found if name.lower().endswith(_SUFFIXES) and not name.startswith(".")]
    if not names:
        raise DataError(f"there are no .tar files in '{path}'", key="shards")
    return [join(path, name) for name in names]


def _missing_field(field: str, extensions: Sequence[str], shard: str, sample: ShardSample) -> DataError:
    offset = min(each.offset for each in sample.members.values()) - _HEADER
    return DataError(
        f"the sample '{sample.key}' at offset {offset} of the shard '{shard}' has no '{field}'",
        key="fields",
        found=[f"{sample.key}.{extension}" for extension in sample.members],
        notes=[f"Add a file with one of the extensions {', '.join(extensions)}, or set fields=dict({field}='...')."],
    )


def _parse(field: str, content: bytes, member: Member, shard: str) -> Any:
    """Returns the value of a file, according to its extension."""
    extension = member.name.rpartition(".")[2].lower()
    try:
        value = _PARSERS.get(extension, bytes)(content)
        if field == "record" and not isinstance(value, dict):
            raise ValueError(f"it must be a JSON object, not {type(value).__name__}")
    except (ValueError, EOFError, RecursionError, OverflowError, MemoryError) as error:
        message = f"'{member.name}' at offset {member.offset} of the shard '{shard}' cannot be parsed"
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{message}: {reason}", key=f"fields.{field}") from error
    return value
