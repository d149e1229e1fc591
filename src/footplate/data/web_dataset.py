"""A dataset of WebDataset shards: tar files that contain the files of many samples.

The index of `a.tar` is the file `a.tar.index.json`. It contains the size and the modification time of the shard, and
the name, the offset and the size of each file in it, so that samples can be read in any order.
"""

import hashlib
import io
import json
import logging
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from footplate.checks import check_flag, check_path
from footplate.data.annotations import explain_read_errors, join_root, with_retries
from footplate.data.base_dataset import BaseDataset, Indices
from footplate.data.shared_memory import RecordStore
from footplate.data.transforms.pipeline import Transform
from footplate.errors import ArgumentError, DataError, FootplateError
from footplate.registry import DATASETS
from footplate.storage import (
    FileStatus,
    absolute,
    base_name,
    commit_bytes,
    is_local,
    join,
    list_dir,
    local_copy,
    missing_path_notes,
    open_file,
    read_bytes,
    read_range,
    split_query,
    status,
)

_logger = logging.getLogger("footplate.data")
DEFAULT_FOLDER = os.path.join("~", ".cache", "footplate", "shards")
INDEX_SUFFIX = ".index.json"
_VERSION = 2  # of the index
_BLOCK = 512  # bytes of a tar header
_MAX_PADDING = 1024 + 10_240  # bytes after the last file: the end-of-archive marker, and zeros up to a full record
_THREADS = 8  # for loading indexes
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_KEY = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)")  # the key of a sample, and the extension
_META = re.compile(r"__[^/]*__($|/)")  # files that are no samples
_USUAL_FIELDS = {
    "img_path": "jpg;jpeg;png;webp;bmp;ppm;pgm;tif;tiff",
    "seg_map_path": "seg.png;mask.png",
    "gt_label": "cls",
    "record": "json",
}
_PARSERS: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(("cls", "cls2", "class", "count", "index", "inx", "id"), int),
    **dict.fromkeys(("txt", "text"), bytes.decode),
    **dict.fromkeys(("json", "jsn"), json.loads),
    "npy": lambda content: np.lib.format.read_array(io.BytesIO(content), allow_pickle=False),
}


class Member(NamedTuple):
    """A file in a shard. Its content begins at `offset` and has `size` bytes."""

    name: str
    offset: int
    size: int


class ShardIndex(NamedTuple):
    """The files in a shard, and the size and modification time of the shard when they were found."""

    status: FileStatus
    members: list[Member]

    def samples(self, shard: str) -> dict[str, dict[str, Member]]:
        """Returns the files of each sample by lowercase extension, such as `jpg` or `seg.png`.

        As in the webdataset library, the key of a sample is the name up to the first dot after the folder.

        Raises:
            DataError: The shard has no samples, or a sample occurs twice.
        """
        samples: dict[str, dict[str, Member]] = {}
        last = None
        for member in self.members:
            match = _KEY.fullmatch(member.name)
            if match is None or _META.match(member.name):
                continue
            key, extension = match.group(1), match.group(2).lower()
            if extension in samples.get(key, {}) or (key in samples and key != last):
                raise DataError(
                    f"the sample '{key}' occurs twice in the shard '{shard}'",
                    found=f"'{member.name}' at offset {member.offset - _BLOCK}",
                    notes=["The files of a sample must be next to each other, and every key must be unique."],
                )
            samples.setdefault(key, {})[extension] = member
            last = key
        if not samples:
            raise DataError(f"the shard '{shard}' contains no samples", found=[each.name for each in self.members][:3])
        return samples


@DATASETS.register_module()
class WebDataset(BaseDataset):
    """A dataset of WebDataset shards, on disk or in an object store. Samples can be read in any order.

    The files of a sample are next to each other in a shard. Their names are the same up to the first dot; this part is
    the key of the sample. On first use, each shard is indexed.

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
        indices: The indices of the samples to keep; see `BaseDataset`.
        pipeline: Transforms that are applied to a record in order.
        test_mode: Whether to raise an error if the pipeline returns None. If False, a different sample is used instead.
        lazy_init: Whether to defer reading the indexes until `full_init` is called.
        max_refetch: The maximum number of other samples to try after the pipeline returns None.
        cache_dir: The folder for copies of remote shards, and for indexes that cannot be written next to the shards.
            With None, only the bytes of a sample are requested each time it is read.
        ignore_index: The label of ignored pixels in label maps.
        reduce_zero_label: Whether to ignore label 0 of label maps and to decrease all other labels by one.
        on_error: "stop" or "skip"; see `BaseDataset`.

    Raises:
        DataError: A shard is missing or damaged, or a sample lacks a field.
        ArgumentError: An argument is invalid.
    """

    def __init__(
        self,
        shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        fields: Mapping[str, str] | None = None,
        data_root: str | None = "",
        metainfo: Mapping[str, Any] | None = None,
        indices: Indices | None = None,
        pipeline: Sequence[Transform | Mapping[str, Any]] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
        *,
        cache_dir: str | None = DEFAULT_FOLDER,
        ignore_index: int = 255,
        reduce_zero_label: bool = False,
        on_error: Literal["stop", "skip"] = "stop",
    ) -> None:
        self.shards = expand_shards(shards, check_path("data_root", data_root, optional=True))
        self.fields = None if fields is None else _split_fields(fields)
        self.ignore_index = ignore_index
        self.reduce_zero_label = check_flag("reduce_zero_label", reduce_zero_label)
        self._cache_dir = None if cache_dir is None else os.path.abspath(os.path.expanduser(cache_dir))
        self._copies: dict[int, str] = {}  # the paths of local copies by the index of the shard
        self._sizes: list[int] = []  # of the shards, in bytes
        self._digest = ""  # of the shards so far
        super().__init__(
            metainfo=metainfo,
            data_root=data_root,
            indices=indices,
            pipeline=pipeline,
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
            on_error=on_error,
        )

    def load_data_list(self) -> Any:
        """Loads or creates the indexes of all shards; returns a record of (shard, key, files) for each sample."""
        # On exit, the pool does not wait for its threads, so that Ctrl-C and errors end a slow download at once.
        try:
            with ThreadPool(_THREADS) as pool:
                return RecordStore(self._records(pool.imap(self._load_index, range(len(self.shards)))))
        except FootplateError as error:
            error.key = error.key or "shards"
            raise

    def filter_data(self) -> Any:
        """Returns all records."""
        return self.data_list

    @property
    def digest(self) -> str:
        """A SHA-256 of the names, the sizes and the files of all shards, in order.

        A run that is resumed compares it with that in the checkpoint; see `DataPosition`.
        """
        self.full_init()
        return self._digest

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Reads a sample and returns its record. `file_contents` maps each key of a path to the bytes of the file."""
        self.full_init()
        return self._read_record(idx, self.data_list[idx][2])

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the class of a sample, without reading its image.

        Raises:
            KeyError: The sample has no `gt_label`.
        """
        self.full_init()
        files = self.data_list[idx][2]
        field = "record" if "record" in files and "gt_label" not in files else "gt_label"
        return [int(self._read_record(idx, {field: files[field]})["gt_label"])]

    def shard_numbers(self) -> NDArray[np.int32]:
        """Returns the index of each sample's shard, ``(N,)``. A sampler with `shard_window` calls this method."""
        self.full_init()
        return np.fromiter((record[0] for record in self.data_list), dtype=np.int32, count=len(self.data_list))

    def _records(self, indexes: Iterator[ShardIndex]) -> Iterator[tuple[int, str, dict[str, tuple[Any, ...]]]]:
        for number, index in enumerate(indexes):
            shard = self.shards[number]
            self._sizes.append(index.status.size)
            content = json.dumps([self._digest, base_name(shard), index.status.size, index.members])
            self._digest = hashlib.sha256(content.encode()).hexdigest()
            for key, files in index.samples(shard).items():
                if self.fields is None:
                    usual = _split_fields(_USUAL_FIELDS)
                    self.fields = {
                        field: names for field, names in usual.items() if field == "img_path" or {*names} & {*files}
                    }
                members = {}
                for field, names in self.fields.items():
                    extension = next((name for name in names if name in files), None)
                    if extension is None:
                        raise DataError(
                            f"the sample '{key}' of the shard '{shard}' has no '{field}'",
                            key="fields",
                            found=[member.name for member in files.values()],
                            notes=[f"Add a file '{key}.{names[0]}', or set fields=dict({field}='...')."],
                        )
                    members[field] = tuple(files[extension])  # smaller and faster than a class when pickled
                yield number, key, members

    def _load_index(self, number: int) -> ShardIndex:
        """Returns the index of a shard. Creates the index if it is missing or out of date."""
        shard = self.shards[number]
        address, query = split_query(absolute(shard))
        paths = [address + INDEX_SUFFIX + query]
        if self._cache_dir is not None:
            name = f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{base_name(address)[-100:]}{INDEX_SUFFIX}"
            paths.append(os.path.join(self._cache_dir, name))
        with explain_read_errors("shard", shard):
            current = with_retries(status, shard)
            for path in paths:
                index = _read_index(path)
                if index is None:
                    continue
                # An index that was uploaded next to a remote shard contains the time of the original.
                is_uploaded = path == paths[0] and not is_local(shard)
                if index.status == current or (is_uploaded and index.status.size == current.size):
                    return index._replace(status=current)
            with self._open(number, current.size) as stream:
                index = ShardIndex(current, _scan(shard, stream))
        content = json.dumps({"version": _VERSION, **current._asdict(), "members": index.members})
        for path in paths if is_local(shard) else paths[1:]:
            with suppress(OSError):
                commit_bytes(path, content.encode())
                return index
        _logger.warning("The index of '%s' cannot be saved, so each run scans the shard again.", shard)
        return index

    def _open(self, number: int, size: int) -> IO[Any]:
        """Opens a shard, or the local copy of a remote shard."""
        shard, folder = self.shards[number], self._cache_dir
        if is_local(shard) or folder is None:
            return open_file(shard)
        path = self._copies.get(number)
        if path is None or not os.path.exists(path):
            path = self._copies[number] = with_retries(lambda url: local_copy(url, folder, size), shard)
        return open_file(path)

    def _read(self, number: int, members: Sequence[Member]) -> list[bytes]:
        """Returns the contents of files that are next to each other in a shard."""
        shard = self.shards[number]
        begin, end = min(each.offset for each in members), max(each.offset + each.size for each in members)
        with explain_read_errors("shard", shard):
            if is_local(shard) or self._cache_dir is not None:
                with self._open(number, self._sizes[number]) as stream:
                    stream.seek(begin)
                    data = stream.read(end - begin)
            else:
                data = with_retries(lambda url: read_range(url, begin, end), shard)
        if len(data) != end - begin:
            raise DataError(f"the shard '{shard}' has changed: it ends at offset {begin + len(data)}")
        return [data[each.offset - begin : each.offset - begin + each.size] for each in members]

    def _read_record(self, idx: int, files: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
        """Reads files of a sample and returns them as a record."""
        number, key, _ = self.data_list[idx]
        shard, members = self.shards[number], {field: Member(*file) for field, file in files.items()}
        contents = dict(zip(members, self._read(number, list(members.values())), strict=True))
        record: dict[str, Any] = {}
        if self._metainfo.get("classes") is not None:
            record["num_classes"] = len(self._metainfo["classes"])
        if "seg_map_path" in contents:
            record |= {"ignore_index": self.ignore_index, "reduce_zero_label": self.reduce_zero_label}
        if "record" in contents:  # first, so that other fields replace its items
            record |= _parse("record", contents.pop("record"), members["record"], shard)
        paths = {field: join(shard, members[field].name) for field in contents if field.endswith("_path")}
        record |= paths
        for field in contents.keys() - paths.keys():
            record[field] = _parse(field, contents[field], members[field], shard)
        label, count = record.get("gt_label"), record.get("num_classes")
        if isinstance(label, int) and count is not None and not 0 <= label < count:
            message = f"the class of the sample '{key}' in the shard '{shard}' must be from 0 to {count - 1}"
            raise DataError(message, found=label)
        return {
            **record,
            "sample_idx": idx if idx >= 0 else len(self) + idx,
            "sample_key": key,
            "file_contents": {field: contents[field] for field in paths},
        }


def expand_shards(shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], root: str = "") -> list[str]:
    """Returns the paths of shards.

    Args:
        shards: A list of paths, a folder, or a path with ranges of numbers in braces.
        root: The folder or URL to which relative paths are joined.

    Raises:
        DataError: There are no shards.
        ArgumentError: `shards` is neither a path nor a list of paths.

    Example:
        >>> expand_shards("a-{08..10}.tar", "data")
        ['data/a-08.tar', 'data/a-09.tar', 'data/a-10.tar']
    """
    several = [shards] if isinstance(shards, str | os.PathLike) else shards
    if not isinstance(several, Sequence) or not all(isinstance(path, str | os.PathLike) for path in several):
        raise ArgumentError("shards must be a path or a list of paths", key="shards", found=shards)
    paths = [path for pattern in several for path in _expand(join_root(root, os.fspath(pattern)))]
    if not paths:
        raise DataError("there are no shards", key="shards", found=shards)
    if len({absolute(path) for path in paths}) < len(paths):
        raise ArgumentError("a shard is listed twice", key="shards", found=shards)
    return paths


def _expand(path: str) -> list[str]:
    match = _RANGE.search(path)
    if match is not None:
        first, last = match.groups()
        width = len(first) if first.startswith("0") else 0
        numbers = [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
        return [shard for number in numbers for shard in _expand(path[: match.start()] + number + path[match.end() :])]
    if base_name(path).lower().endswith(".tar"):
        return [path]
    with explain_read_errors("folder", path):
        try:
            names = with_retries(list_dir, path)
        except (FileNotFoundError, NotADirectoryError) as error:
            notes = missing_path_notes(path) or [str(error)]
            raise DataError(f"'{path}' is neither a .tar file nor a folder", key="shards", notes=notes) from error
    return [join(path, name) for name in names if name.lower().endswith(".tar") and not name.startswith(".")]


def _split_fields(fields: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns the extensions of each field.

    Raises:
        ArgumentError: `fields` is not a dict of extensions.
    """
    if not isinstance(fields, Mapping) or not fields or not all(isinstance(names, str) for names in fields.values()):
        message = "fields must be a dict that maps keys of a record to extensions, such as dict(img_path='jpg;png')"
        raise ArgumentError(message, key="fields", found=fields)
    return {key: [name.strip().lower().removeprefix(".") for name in names.split(";")] for key, names in fields.items()}


def _scan(shard: str, stream: IO[Any]) -> list[Member]:
    """Reads the headers of an opened shard, and returns its regular files in order.

    Raises:
        DataError: The shard is compressed, incomplete or damaged, or contains links or sparse files.
    """
    members = []
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for entry in archive:
                if entry.issparse() or not (entry.isreg() or entry.isdir()):
                    raise DataError(
                        f"'{entry.name}' in the shard '{shard}' is a link, a sparse file or a device",
                        notes=["Create the shard with 'tar --dereference --hard-dereference', without '--sparse'."],
                    )
                if entry.isreg():
                    members.append(Member(entry.name, entry.offset_data, entry.size))
            end = archive.offset
    except tarfile.TarError as error:
        raise DataError(
            f"the shard '{shard}' cannot be read: {error}", notes=["A shard must be an uncompressed tar file."]
        ) from error
    # tarfile ends without an error at a damaged header, and where an incomplete copy ends.
    stream.seek(end)
    rest = stream.read(_MAX_PADDING + 1)
    if not _BLOCK <= len(rest) <= _MAX_PADDING or rest.strip(b"\0"):
        raise DataError(
            f"the shard '{shard}' is incomplete or damaged",
            found=f"no end of the archive at offset {end}",
            notes=["Copy the shard again. To join tar files, use 'tar --concatenate'."],
        )
    return members


def _read_index(path: str) -> ShardIndex | None:
    """Returns the content of an index file, or None if it is missing or invalid."""
    try:
        content = json.loads(with_retries(read_bytes, path))
        if content["version"] != _VERSION:
            return None
        members = [Member(str(name), int(offset), int(size)) for name, offset, size in content["members"]]
        return ShardIndex(FileStatus(content["size"], content["modified"]), members)
    # Object stores may refuse access to a file that does not exist.
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (ValueError, KeyError, TypeError):  # such as a page of a server
        _logger.warning("Ignoring '%s', because it is not a valid index.", path)
        return None


def _parse(field: str, content: bytes, member: Member, shard: str) -> Any:
    """Returns the value of a file, according to its extension."""
    extension = member.name.rpartition(".")[2].lower()
    try:
        value = _PARSERS.get(extension, bytes)(content)
        if field == "record" and not isinstance(value, dict):
            raise ValueError(f"it must be a JSON object, not {type(value).__name__}")
    except (ValueError, EOFError, RecursionError) as error:
        message = f"'{member.name}' of the shard '{shard}' cannot be parsed: {error}"
        raise DataError(message, key=f"fields.{field}") from error
    return value
