"""A dataset of LitData chunks: files of many samples, written by LitData's `optimize`."""

import io
import json
import os
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from multiprocessing.pool import ThreadPool
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from footplate.checks import check_path
from footplate.data.annotations import explain_read_errors, join_root, with_retries
from footplate.data.sharded_dataset import ShardedDataset, StoredSample, split_names
from footplate.data.shared_memory import RecordStore
from footplate.error_context import at_key
from footplate.errors import DataError, MissingExtraError
from footplate.registry import DATASETS
from footplate.storage import FileStatus, is_local, join, open_file, read_bytes, status

_THREADS = 8  # that query the sizes of chunks
# A chunk begins with integers of 4 bytes: the number of samples, the offset of each sample, the end of the last one. A
# sample begins with the size of each of its values.
_OFFSET_BYTES = 4
_RANGE = struct.Struct("<2I")
_USUAL_FIELDS = {
    "img_path": "image;img;jpg;jpeg;png",
    "seg_map_path": "seg_map;mask",
    "gt_label": "label;class;cls",
    "record": "record;json",
}
# Without "pickle" and "graph", which can execute code, and without audio, video and documents.
_ENCODED = ("image", "jpeg", "tifffile")  # files that the transforms decode
_FORMATS: tuple[str, ...] = (*_ENCODED, "file", "bytes", "pil", "str", "text", "bool", "int", "float", "json")
_FORMATS += ("numpy", "no_header_numpy", "tensor", "no_header_tensor")


class _Chunk(NamedTuple):
    path: str
    size: int  # bytes
    samples: int


@DATASETS.register_module()
class LitDataset(ShardedDataset):
    """A dataset of LitData chunks, on disk or in an object store. Samples can be read in any order.

    LitData decodes the samples. footplate opens the chunks, copies remote ones to its cache, and chooses the order, so
    that a run can be resumed at any sample. Chunks must be neither compressed nor encrypted.

    Args:
        folder: The path or URL of the folder with the chunks and their `index.json`.
        fields: Maps keys of a record to keys of the samples, or to their indices if the samples are tuples; `;`
            separates alternatives. A value under a key that ends in `_path` is an image for the transforms of the
            pipeline: an encoded file, a PIL image, or a uint8 array or tensor of shape ``(H, W)`` or ``(H, W, 3)``. The
            items of a dict under `record` are added to the record. By default, `img_path` is read from `image`, `img`,
            `jpg`, `jpeg` or `png`. Three more keys are read if the samples have them: `seg_map_path` from `seg_map` or
            `mask`, `gt_label` from `label`, `class` or `cls`, and `record` from `record` or `json`.
        data_root: The folder or URL to which a relative `folder` is joined.
        metainfo: Metadata about the dataset, such as `classes`.
        settings: Arguments for `ShardedDataset` and `BaseDataset`: `cache_dir`, `cache_gb`, `pipeline`, `indices` ...

    Raises:
        DataError: A chunk is missing or incomplete, the index is invalid, or the samples lack a field.
        ArgumentError: An argument is invalid.
        MissingExtraError: The package litdata is not installed.
    """

    shard_name = "chunk"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fields: Mapping[str, str] | None = None,
        data_root: str | None = "",
        metainfo: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.folder = join_root(check_path("data_root", data_root, optional=True), check_path("folder", folder))
        self._chunks: list[_Chunk] = []
        self._statuses: list[FileStatus] = []
        self._names: dict[str, str] = {}  # of the samples, by the key of the record
        self._all_names: list[str] = []  # of the values of a sample, with their formats
        self._formats: list[str] = []
        self._sizes_format = ""  # of the sizes of the values of a sample
        self._decoder: Any = None
        super().__init__(fields, data_root, metainfo, **settings)

    def load_data_list(self) -> Any:
        """Reads the index and checks the size of each chunk; returns a record of (chunk, position) for each sample."""
        with at_key("folder"):
            self._chunks, config = _read_index(self.folder)
            # On exit, the pool does not wait for its threads, so that Ctrl-C and errors end a slow download at once.
            with ThreadPool(_THREADS) as pool:
                self._statuses = list(pool.imap(_check_chunk, self._chunks))
        self._sizes_format = f"<{len(config['data_format'])}I"
        self._formats = config["data_format"]
        self._decoder, self._all_names = _create_decoder(config, self.folder)
        self._names = self._find_names(self._all_names)
        return RecordStore((number, at) for number, chunk in enumerate(self._chunks) for at in range(chunk.samples))

    def read_sample(self, *entry: Any) -> StoredSample:
        """Reads and decodes a sample; see `ShardedDataset.read_sample`."""
        number, position = entry
        chunk = self._chunks[number]
        content = self._read(number, position)
        name = f"sample {position} of the chunk '{chunk.path}'"
        try:
            item = self._decoder.load_item_from_bytes(content, number)
        except Exception as error:  # the library raises errors of many types for damaged data
            raise DataError(
                f"{name} cannot be decoded: {_describe(error)}",
                found=dict(zip(self._all_names, self._formats, strict=False)),
                notes=["The chunk is damaged, or index.json has the wrong formats. Copy both again."],
            ) from error
        found = item if isinstance(item, dict) else {str(index): value for index, value in enumerate(item)}
        sample = StoredSample(chunk.path, str(position), {}, {})
        # `record` is first, so that other fields replace its items.
        for field in sorted(self._names, key=lambda each: each != "record"):
            value = found[self._names[field]]
            try:
                if field == "record":
                    record = json.loads(value) if isinstance(value, str | bytes) else value
                    if not isinstance(record, dict):
                        raise ValueError(f"'record' must be a dict, not {type(record).__name__}")
                    sample.values.update(record)
                elif field.endswith("_path"):
                    sample.files[field] = join(chunk.path, f"{position}.{self._names[field]}"), _to_file(value)
                else:
                    sample.values[field] = value
            except Exception as error:  # PIL raises errors of many types, too
                message = f"'{self._names[field]}' of {name} cannot be used as '{field}': {_describe(error)}"
                raise DataError(message, key=f"fields.{field}") from error
        return sample

    def shard_list(self) -> list[tuple[str, int, int]]:
        """Returns the path, the size and the number of samples of each chunk; see `ShardedDataset.shard_list`."""
        return list(self._chunks)

    def _find_names(self, names: Sequence[str]) -> dict[str, str]:
        """Maps each field to its name in the samples."""
        wanted = self.fields or {key: split_names(each) for key, each in _USUAL_FIELDS.items()}
        found = {key: next((each for each in several if each in names), None) for key, several in wanted.items()}
        required = ["img_path"] if self.fields is None else list(self.fields)
        for key in required:
            if found[key] is None:
                raise DataError(
                    f"the samples of '{self.folder}' have no '{key}'",
                    key="fields",
                    found=list(names),
                    notes=[f"Set fields=dict({key}='...') to a name that the samples contain."],
                )
        return {key: name for key, name in found.items() if name is not None}

    def _read(self, number: int, position: int) -> bytes:
        """Returns the bytes of a sample, and checks the tables of offsets and sizes."""
        chunk = self._chunks[number]
        try:
            with self.cache.open(chunk.path, self._statuses[number]) as stream:
                _check_count(chunk, stream)
                stream.seek(_OFFSET_BYTES * (1 + position))
                table = stream.read(_RANGE.size)
                begin, end = _RANGE.unpack(table) if len(table) == _RANGE.size else (0, 0)
                if not _OFFSET_BYTES * (2 + chunk.samples) <= begin <= end <= chunk.size:
                    raise _damaged(chunk, f"sample {position} is from {begin} to {end} of {chunk.size} bytes")
                stream.seek(begin)
                content: bytes = stream.read(end - begin)
        except OSError as error:
            raise DataError(f"the chunk '{chunk.path}' cannot be read: {error}") from error
        header = struct.calcsize(self._sizes_format)
        sizes = struct.unpack_from(self._sizes_format, content) if len(content) >= header else ()
        if header + sum(sizes) != end - begin or len(content) < end - begin:
            raise _damaged(chunk, f"the sizes of the values of sample {position} do not add up to {end - begin} bytes")
        return content


def _damaged(chunk: _Chunk, found: str) -> DataError:
    return DataError(
        f"the chunk '{chunk.path}' is damaged, or was replaced during the run",
        found=found,
        notes=["Restore the chunk, or write the dataset again."],
    )


def _read_index(folder: str) -> tuple[list[_Chunk], dict[str, Any]]:
    """Returns the chunks in `index.json` and their configuration; see `_check_config`."""
    path = join(folder, "index.json")
    with explain_read_errors("file", path):
        content = with_retries(read_bytes, path)
    try:
        index = json.loads(content)
        if "shards" in index and "chunks" not in index:
            raise DataError(
                f"'{folder}' contains MDS shards, which are not supported",
                notes=["Convert the dataset with `litdata.optimize`, or to WebDataset shards."],
            )
        config = dict(index["config"])
        entries = [(each["filename"], each["chunk_bytes"], each["chunk_size"]) for each in index["chunks"]]
        for place, entry in enumerate(entries):
            if not _is_valid(*entry):
                message = f"'{path}' is not a valid LitData index: wrong name or size of chunk {place}"
                raise DataError(message, found=entry, notes=["Write the dataset again."])
        is_valid = all(type(each) is str for each in config["data_format"] or ())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise DataError(f"'{path}' is not a valid LitData index", notes=["Write the dataset again."])
    if not entries:
        raise DataError(f"the dataset '{folder}' has no chunks")
    name, times = Counter(name for name, *_ in entries).most_common(1)[0]
    if times > 1:
        raise DataError(f"'{path}' lists the chunk '{name}' {times} times", notes=["Write the dataset again."])
    chunks = [_Chunk(join(folder, name), size, samples) for name, size, samples in entries]
    _check_config(config, path)
    return chunks, config


def _is_valid(name: Any, size: Any, samples: Any) -> bool:
    """Checks whether a chunk is in the folder of the index, and can have this number of samples."""
    is_name = type(name) is str and name not in ("", os.curdir, os.pardir) and not {os.sep, "\0"} & set(name)
    return is_name and type(size) is int and type(samples) is int and 0 < samples <= size // _OFFSET_BYTES - 2


def _check_config(config: Mapping[str, Any], path: str) -> None:
    """Raises a DataError if samples cannot be read individually from the chunks, or if reading could execute code."""
    for key in ("compression", "encryption"):
        if config.get(key):
            raise DataError(
                f"the chunks of '{path}' use {key}, so their samples cannot be read in random order",
                found=config[key],
                notes=[f"Write the dataset without `{key}`. Images are already compressed."],
            )
    loader = config.get("item_loader") or "PyTreeLoader"
    if loader != "PyTreeLoader":
        raise DataError(f"the samples of '{path}' must be written with the default item loader", found=loader)
    unsupported = [each for each in config["data_format"] or () if each.partition(":")[0] not in _FORMATS]
    if unsupported or not config["data_format"]:
        raise DataError(
            f"the format of the samples of '{path}' is not supported",
            found=unsupported or None,
            notes=[
                f"Use only the formats {', '.join(_FORMATS)}. Pickles are not loaded, because they can execute code."
            ],
        )


def _check_chunk(chunk: _Chunk) -> FileStatus:
    """Returns the file status of a chunk. Raises a DataError if the chunk does not match the index.

    The number of samples is stored in the chunk itself, so it is checked here only if the chunk is local.
    """
    with explain_read_errors("chunk", chunk.path):
        found = with_retries(status, chunk.path)
    if found.size != chunk.size:
        raise DataError(
            f"the size of the chunk '{chunk.path}' differs from that in index.json",
            found=f"{found.size} bytes instead of {chunk.size}",
            notes=["Copy the chunk again, or write the dataset again."],
        )
    if is_local(chunk.path):
        with explain_read_errors("chunk", chunk.path), open_file(chunk.path) as stream:
            _check_count(chunk, stream)
    return found


def _check_count(chunk: _Chunk, stream: IO[Any]) -> None:
    """Raises a DataError if the number of samples at the beginning of a chunk differs from that in the index."""
    stream.seek(0)
    found = int.from_bytes(stream.read(_OFFSET_BYTES), "little")
    if found != chunk.samples:
        raise DataError(
            f"the number of samples in the chunk '{chunk.path}' differs from that in index.json",
            found=f"{found} samples instead of {chunk.samples}",
            notes=["Copy the chunk and its index.json again, or write the dataset again."],
        )


def _create_decoder(config: Mapping[str, Any], folder: str) -> tuple[Any, list[str]]:
    """Returns LitData's item loader, which decodes samples, and the names of the values in a sample."""
    try:
        from litdata.streaming import serializers  # type: ignore[import-not-found, unused-ignore]
        from litdata.streaming.item_loader import PyTreeLoader  # type: ignore[import-not-found, unused-ignore]
        from litdata.utilities._pytree import treespec_loads  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingExtraError("litdata", extra="litdata", why="LitDataset") from error
    known = serializers._get_serializers(dict.fromkeys(_ENCODED, serializers.BytesSerializer()))
    decoder = PyTreeLoader()
    try:
        spec = treespec_loads(config["data_spec"])
        decoder.setup({**config, "data_spec": spec}, [], {name: known[name] for name in _FORMATS})
    except Exception as error:  # the library raises errors of many types
        raise DataError(f"litdata cannot read the index of '{folder}': {error}") from error
    if spec.type is dict:
        return decoder, [str(name) for name in spec.context]
    if spec.type in (list, tuple):
        return decoder, [str(index) for index in range(len(spec.children_specs))]
    raise DataError(f"the samples of '{folder}' must be dicts, lists or tuples", found=str(spec.type))


def _describe(error: Exception) -> str:
    """Returns the first line of an error. Errors other than ValueError are often unclear without their type."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"


def _to_file(value: Any) -> bytes:
    """Encodes an image losslessly and returns the bytes of the file. Returns encoded images unchanged."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        try:
            value = Image.fromarray(value)
        except (TypeError, ValueError) as error:
            found = f"{value.dtype} of shape {value.shape}"
            raise ValueError(f"an image array must be uint8 of shape (H, W) or (H, W, 3), not {found}") from error
    if not isinstance(value, Image.Image):
        kind = type(value).__name__
        raise ValueError(f"an image must be an encoded file, a PIL image, an array or a tensor, not {kind}")
    stream = io.BytesIO()
    value.save(stream, "TIFF")  # not compressed, and with all modes of PIL
    return stream.getvalue()
