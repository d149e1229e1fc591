"""Lists the content of a checkpoint without reading its tensors."""

import os
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from footplate import storage
from footplate.checkpoint.digest import Digest
from footplate.checkpoint.loading import trusted_in
from footplate.checkpoint.serializable import tensors_in, walk
from footplate.checkpoint.unpickler import OpaqueObject
from footplate.checkpoint.verifying import naming_checkpoint, read_outline
from footplate.checkpoint.weights import weights_of
from footplate.errors import CheckpointError
from footplate.messages import list_names

_MOST_KEYS = 8  # the maximum number of keys that are shown for a dict
_META_KEYS = ("epoch", "iter", "time", "experiment_name", "seed", "footplate_version", "mmengine_version")


class Section(NamedTuple):
    """A top-level entry of a checkpoint."""

    name: str  # the key
    tensors: int  # the number of tensors in the entry
    size: int  # the size of these tensors in bytes
    text: str  # the value or the keys of an entry without tensors; empty for an entry with tensors


class ShardFile(NamedTuple):
    """A file of a sharded checkpoint."""

    name: str  # the file name in the folder
    size: int  # the size in bytes
    shards: int  # the number of shards in the file


class Contents(NamedTuple):
    """The content of a checkpoint."""

    path: str  # the file or folder
    size: int  # the size in bytes
    digest: Digest  # the recorded digest and time, not verified; without a SHA-256 if another program wrote the file
    meta: dict[str, str]  # epoch, iteration, seed and other metadata
    sections: list[Section]  # the top-level entries, in order
    weights: list[tuple[str, tuple[int, ...], str]]  # name, shape and dtype of each weight
    opaque_names: list[str]  # the class names of the objects in the checkpoint that were not instantiated
    files: list[ShardFile]  # the files of a sharded checkpoint; empty for a single file


def read_contents(path: "str | os.PathLike[str]") -> Contents:
    """Returns the content of a checkpoint. Reads only the shapes of tensors, and verifies nothing.

    Raises:
        CheckpointError: The file does not exist or is not a checkpoint.
    """
    name = os.fspath(path)
    with naming_checkpoint(name):
        outline = read_outline(name)
        content, layout = outline.content, outline.layout
        files: list[ShardFile] = []
        if layout is not None:  # the files of the ranks in order of rank, followed by the state file
            counts = Counter(chunk.file for tensor in layout.tensors.values() for chunk in tensor.chunks)
            names = sorted(layout.files, key=lambda each: (each == layout.state, len(each), each))
            files = [ShardFile(each, layout.files[each].size, counts[each]) for each in names]
        sections = []
        for key, value in content.items():
            tensors = tensors_in(value)
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            sections.append(Section(str(key), len(tensors), size, "" if tensors else _describe(value)))
        meta = content.get("meta")
        known = {key: _text(meta[key]) for key in _META_KEYS if key in meta} if isinstance(meta, Mapping) else {}
        if trusted := trusted_in(content):
            known["trusted"] = ", ".join(_text(each.get("path", "?")) for each in trusted)
        try:
            weights = weights_of(content)
        except CheckpointError:
            weights = OrderedDict()
        return Contents(
            name,
            storage.status(name).size if layout is None else layout.nbytes,
            outline.digest,
            known,
            sections,
            [
                (key, tuple(value.shape), str(value.dtype).removeprefix("torch."))
                for key, value in weights.items()
                if isinstance(value, torch.Tensor)
            ],
            sorted({entry.name for entry in walk(content) if isinstance(entry, OpaqueObject)}),
            files,
        )


def _describe(value: Any) -> str:
    """Returns a short description of an entry that contains no tensors."""
    if isinstance(value, OpaqueObject):
        return f"an object of {value.name}"
    if isinstance(value, Mapping):
        return list_names(value, _MOST_KEYS) or "empty"
    if not isinstance(value, (list, tuple, set, frozenset)):
        return repr(value) if isinstance(value, str) else _text(value)
    if value and isinstance(value, (list, tuple)) and all(isinstance(each, Mapping) for each in value):
        keys = list_names(value[0], _MOST_KEYS)
        return f"{len(value)}, each with {keys}" if len(value) > 1 else f"one with {keys}"
    return f"{len(value)} values" if value else "empty"


def _text(value: Any) -> str:
    """Formats a scalar. For any other value, returns only the name of its type, because its text may be arbitrarily
    long."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, torch.device)):
        return str(value)
    return f"a value of type '{type(value).__name__}'"
