"""A dataset of WebDataset shards: tar files that contain the files of many samples.

The index of a shard lists the name, offset and size of each file, so that samples can be read in any order. Indexes are
cached under names derived from the shard's path or URL, size and modification time.
"""

import hashlib
import io
import json
import logging
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from multiprocessing.pool import ThreadPool
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from footplate import storage
from footplate.checks import check_flag
from footplate.data.annotations import Record, explain_read_errors, join_root, with_retries
from footplate.data.base_dataset import BaseDataset
from footplate.data.shared_memory import RecordStore
from footplate.errors import DataError, FootplateError
from footplate.registry import DATASETS
from footplate.storage.paths import Path

_logger = logging.getLogger("footplate.data")
DEFAULT_FOLDER = os.path.join("~", ".cache", "footplate", "shards")
_BLOCK = 512  # bytes of a tar header
_MAX_PADDING = 1024 + 10_240  # bytes after the last file: the end-of-archive marker, and zeros up to a full record
_THREADS = 8  # that load indexes in parallel
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_KEY = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)")  # the key of a sample, and the extension
_META = re.compile(r"__[^/]*__($|/)")  # files that do not belong to samples
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


_Fields = Mapping[str, Sequence[str]]  # the file extensions for each record key


class Member(NamedTuple):
    """A file in a WebDataset shard. `offset` and `size` are in bytes."""

    name: str
    offset: int
    size: int


class Shard:
    """A tar file on disk or in an object store. See `WebDataset` for `cache_dir`."""

    def __init__(self, path: str, cache_dir: str) -> None:
        self.path = path
        self.cache_dir = cache_dir
        self.size = 0  # in bytes, when the index was loaded
        self._copy = path if storage.is_local(path) else ""  # the path of the local copy of a remote shard

    def load_index(self) -> list[Member]:
        """Returns the files in the shard, in order. Creates the index if it is missing or outdated."""
        address = storage.split_query(storage.absolute(self.path))[0]
        with explain_read_errors("shard", self.path):
            current = with_retries(storage.status, self.path)
            self.size = current.size
            digest = hashlib.sha256(repr((address, *current)).encode()).hexdigest()
            index = os.path.join(self.cache_dir, f"{digest[:32]}.json")
            if os.path.exists(index):
                return [Member(*member) for member in json.loads(storage.read_bytes(index))]
            with self._open() as stream:
                members = _scan(self.path, stream)
        try:
            storage.commit_bytes(index, json.dumps(members).encode())
        except OSError as error:
            _logger.warning(
                "The index of '%s' cannot be saved, so every run has to scan the shard: %s", self.path, error
            )
        return members

    def read(self, members: Sequence[Member]) -> list[bytes]:
        """Returns the contents of adjacent files. Raises a DataError if the shard cannot be read or has shrunk."""
        begin = min(member.offset for member in members)
        end = max(member.offset + member.size for member in members)
        with explain_read_errors("shard", self.path), self._open() as stream:
            stream.seek(begin)
            data = stream.read(end - begin)
        if len(data) != end - begin:
            raise DataError(f"the shard '{self.path}' has been truncated: cannot read bytes {begin} to {end}")
        return [data[member.offset - begin :][: member.size] for member in members]

    def _open(self) -> IO[Any]:
        """Opens the shard, or the local copy of a remote shard."""
        if not storage.is_local(self.path) and not os.path.exists(self._copy):
            self._copy = with_retries(lambda url: storage.local_copy(url, self.cache_dir, self.size), self.path)
        return storage.open_file(self._copy)


@DATASETS.register_module()
class WebDataset(BaseDataset):
    """A dataset of WebDataset shards, on disk or in an object store. Samples can be read in any order.

    A sample's files must be adjacent in the shard, and have the same name up to the first dot, which is the sample's
    key. Shards are indexed on first use.

    Args:
        shards: The paths or URLs of the shards: a list, a folder, or a pattern such as `train-{0000..0099}.tar`.
        fields: Maps record keys to file extensions; `;` separates alternatives. Files under keys that end in `_path`
            are loaded by the transforms of the pipeline. Other files are parsed by extension: `cls`, `index` and `id`
            as integers, `txt` as text, `json` as JSON, `npy` as an array, and all others as bytes. If the key is
            `record`, the items of the JSON object are added to the record. Every sample must have all fields. By
            default, `img_path` is the image, and `seg_map_path` (`seg.png` or `mask.png`), `gt_label` (`cls`) and
            `record` (`json`) are read if the first sample has them.
        data_root: The base folder or URL for relative paths.
        cache_dir: The folder for shard indexes and for copies of remote shards.
        ignore_index: The label of ignored pixels in label maps.
        reduce_zero_label: Whether to ignore label 0 in label maps and shift the others; see `LoadAnnotations`.
        settings: Arguments for `BaseDataset`, such as `pipeline` and `metainfo`.

    Raises:
        DataError: A shard is missing or damaged, or a sample lacks a field.
        ArgumentError: An argument is invalid.
    """

    def __init__(
        self,
        shards: Path | Sequence[Path],
        fields: Mapping[str, str] | None = None,
        data_root: str | None = "",
        *,
        cache_dir: str = DEFAULT_FOLDER,
        ignore_index: int = 255,
        reduce_zero_label: bool = False,
        **settings: Any,
    ) -> None:
        cache_dir = os.path.abspath(os.path.expanduser(cache_dir))
        self._shards = [Shard(path, cache_dir) for path in expand_shards(shards, data_root or "")]
        self._fields = None if fields is None else _split_fields(fields)  # None until the first sample is known
        self._digest = ""
        self.ignore_index = ignore_index
        self.reduce_zero_label = check_flag("reduce_zero_label", reduce_zero_label)
        super().__init__(data_root=data_root, **settings)

    def load_data_list(self) -> Any:
        """Returns one record per sample, with its shard index, its key, and its files keyed by field."""
        # This pool does not wait for its threads on exit, so that Ctrl-C and errors end a slow download at once.
        try:
            with ThreadPool(_THREADS) as pool:
                return RecordStore(self._records(pool.imap(Shard.load_index, self._shards)))
        except FootplateError as error:
            error.key = error.key or "shards"
            raise

    def filter_data(self) -> Any:
        """Returns all records, because shard datasets are not filtered."""
        return self.data_list

    @property
    def digest(self) -> str:
        """The SHA-256 digest of the names, sizes and file lists of all shards.

        A run can resume only if the digest is unchanged; see `DataPosition.load_state_dict`.
        """
        self.full_init()
        return self._digest

    def get_data_info(self, idx: int) -> Record:
        """Reads a sample and returns its record. `file_contents` maps path keys to the bytes of the files."""
        self.full_init()
        return self._read_record(idx, self.data_list[idx][2])

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns a sample's class as a list, without reading the image. Raises a KeyError if there is no class."""
        self.full_init()
        files = self.data_list[idx][2]
        field = "record" if "record" in files and "gt_label" not in files else "gt_label"
        return [int(self._read_record(idx, {field: files[field]})["gt_label"])]

    def shard_numbers(self) -> NDArray[np.int32]:
        """Returns the shard index of each sample as an array of shape ``(N,)``, for samplers with `shard_window`."""
        self.full_init()
        return np.fromiter((record[0] for record in self.data_list), dtype=np.int32, count=len(self.data_list))

    def _records(self, indexes: Iterable[list[Member]]) -> Iterator[tuple[int, str, dict[str, Member]]]:
        digest = hashlib.sha256()
        for number, (shard, members) in enumerate(zip(self._shards, indexes, strict=True)):
            digest.update(json.dumps([storage.base_name(shard.path), shard.size, members]).encode())
            for key, files in _group(shard.path, members).items():
                if self._fields is None:
                    usual = _split_fields(_USUAL_FIELDS).items()
                    self._fields = {field: of for field, of in usual if field == "img_path" or files.keys() & set(of)}
                yield number, key, _choose(self._fields, files, key, shard.path)
        self._digest = digest.hexdigest()

    def _read_record(self, idx: int, files: Mapping[str, Member]) -> Record:
        """Reads the files of a sample and returns them as a record."""
        number, key, _ = self.data_list[idx]
        shard = self._shards[number]
        paths, contents, values = {}, {}, {}
        for (field, member), content in zip(files.items(), shard.read(list(files.values())), strict=True):
            if field.endswith("_path"):
                paths[field] = storage.join(shard.path, member.name)
                contents[field] = content
            else:
                values[field] = _parse(field, content, member, shard.path)
        record: Record = {}
        if self._metainfo.get("classes") is not None:
            record["num_classes"] = len(self._metainfo["classes"])
        if "seg_map_path" in paths:
            record |= {"ignore_index": self.ignore_index, "reduce_zero_label": self.reduce_zero_label}
        record |= values.pop("record", {})  # other fields take precedence
        record |= {**paths, **values}
        label = record.get("gt_label")
        count = record.get("num_classes")
        if isinstance(label, int) and count is not None and not 0 <= label < count:
            message = f"the class of the sample '{key}' in the shard '{shard.path}' must be between 0 and {count - 1}"
            raise DataError(message, found=label)
        return record | {
            "sample_idx": idx if idx >= 0 else len(self) + idx,
            "sample_key": key,
            "file_contents": contents,
        }


def expand_shards(shards: Path | Sequence[Path], root: str = "") -> list[str]:
    """Expands `shards` to a list of paths. A folder stands for the `.tar` files in it.

    Args:
        shards: A list of paths, a folder, or a path with number ranges in braces.
        root: The base folder or URL for relative paths.

    Raises:
        DataError: A folder cannot be read, or there are no shards.

    Example:
        >>> expand_shards("a-{08..10}.tar", "data")
        ['data/a-08.tar', 'data/a-09.tar', 'data/a-10.tar']
    """
    patterns = [shards] if isinstance(shards, str | os.PathLike) else shards
    paths = []
    for path in chain.from_iterable(_expand_ranges(join_root(root, os.fspath(pattern))) for pattern in patterns):
        if storage.base_name(path).lower().endswith(".tar"):
            paths.append(path)
            continue
        with explain_read_errors("folder", path):
            names = with_retries(storage.list_dir, path)
        shown = [name for name in names if name.lower().endswith(".tar") and not name.startswith(".")]
        paths += [storage.join(path, name) for name in shown]
    if not paths:
        raise DataError("no shards were found", key="shards", found=shards)
    return paths


def _expand_ranges(path: str) -> list[str]:
    match = _RANGE.search(path)
    if match is None:
        return [path]
    first, last = match.groups()
    numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return [each for number in numbers for each in _expand_ranges(_RANGE.sub(number, path, count=1))]


def _split_fields(fields: Mapping[str, str]) -> _Fields:
    return {key: [name.strip().lower().removeprefix(".") for name in names.split(";")] for key, names in fields.items()}


def _group(shard: str, members: Sequence[Member]) -> dict[str, dict[str, Member]]:
    """Groups the files in a shard by sample and lowercase extension, such as `jpg` or `seg.png`.

    As in the webdataset library, the key of a sample is its path up to the first dot in the file name.
    """
    samples: dict[str, dict[str, Member]] = {}
    last = None
    for member in members:
        match = _KEY.fullmatch(member.name)
        if match is None or _META.match(member.name):
            continue
        key = match[1]
        extension = match[2].lower()
        if extension in samples.get(key, {}) or (key in samples and key != last):
            notes = ["A sample's files must be adjacent, and every key must be unique."]
            raise DataError(f"the sample '{key}' occurs twice in the shard '{shard}'", found=member.name, notes=notes)
        samples.setdefault(key, {})[extension] = member
        last = key
    if not samples:
        raise DataError(f"the shard '{shard}' contains no samples", found=[member.name for member in members[:3]])
    return samples


def _choose(fields: _Fields, files: Mapping[str, Member], key: str, shard: str) -> dict[str, Member]:
    """Returns the file for each field of a sample."""
    chosen = {}
    for field, extensions in fields.items():
        names = [name for name in extensions if name in files]
        if not names:
            raise DataError(
                f"the sample '{key}' in the shard '{shard}' has no '{field}'",
                key="fields",
                found=[member.name for member in files.values()],
                notes=[f"Add a file '{key}.{extensions[0]}', or set fields=dict({field}='...')."],
            )
        chosen[field] = files[names[0]]
    return chosen


def _scan(shard: str, stream: IO[Any]) -> list[Member]:
    """Reads the headers of an open shard, and returns its regular files in order."""
    members = []
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for entry in archive:
                if entry.isdir():
                    continue
                if entry.issparse() or not entry.isreg():
                    notes = ["Create the shard with 'tar --dereference --hard-dereference', without '--sparse'."]
                    message = f"'{entry.name}' in the shard '{shard}' is a link, a sparse file or a special file"
                    raise DataError(message, notes=notes)
                members.append(Member(entry.name, entry.offset_data, entry.size))
            end = archive.offset
    except tarfile.TarError as error:
        notes = ["A shard must be an uncompressed tar file."]
        raise DataError(f"the shard '{shard}' cannot be read: {error}", notes=notes) from error
    # At a damaged header or the end of an incomplete copy, tarfile stops without an error.
    stream.seek(end)
    rest = stream.read(_MAX_PADDING + 1)
    if not _BLOCK <= len(rest) <= _MAX_PADDING or rest.strip(b"\0"):
        notes = ["Copy the shard again. To join tar files, use 'tar --concatenate'."]
        raise DataError(f"the shard '{shard}' is incomplete or damaged", notes=notes)
    return members


def _parse(field: str, content: bytes, member: Member, shard: str) -> Any:
    """Parses a file according to its extension."""
    try:
        value = _PARSERS.get(member.name.rpartition(".")[2].lower(), bytes)(content)
        if field == "record" and not isinstance(value, dict):
            raise ValueError(f"the record must be a JSON object, not {type(value).__name__}")
    except (ValueError, EOFError) as error:
        message = f"'{member.name}' in the shard '{shard}' cannot be parsed: {error}"
        raise DataError(message, key=f"fields.{field}") from error
    return value
