"""Lists the content of a checkpoint without reading its tensors."""

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from footplate import storage
from footplate.checkpoint._plain import tensors_in, walk
from footplate.checkpoint._seal import Seal, read_seal
from footplate.checkpoint.inert import Inert
from footplate.checkpoint.sharded.layout import Layout, is_folder, read_layout
from footplate.checkpoint.trust import trusted_in
from footplate.checkpoint.verifying import opened, reading, shapes_in
from footplate.checkpoint.weights import weights_of
from footplate.errors import CheckpointError
from footplate.messages import list_names

_MOST_KEYS = 8  # the number of keys of a dict that are shown
_META_KEYS = ("epoch", "iter", "time", "experiment_name", "seed", "footplate_version", "mmengine_version")


class Section(NamedTuple):
    """A top-level entry of a checkpoint.

    Attributes:
        name: The key.
        tensors: The number of tensors in the entry.
        size: The size of these tensors in bytes.
        text: A description of an entry without tensors, such as its value or its keys; empty for other entries.
    """

    name: str
    tensors: int
    size: int
    text: str


class PartFile(NamedTuple):
    """A file of a sharded checkpoint.

    Attributes:
        name: The file name in the folder.
        size: The size in bytes.
        parts: The number of shards in the file.
    """

    name: str
    size: int
    parts: int


class Contents(NamedTuple):
    """The content of a checkpoint.

    Attributes:
        path: The file or folder.
        size: The size in bytes.
        seal: The recorded digest and time, which are not verified. The digest is None in files of other programs.
        meta: Epoch, iteration, seed and other metadata.
        sections: The top-level entries, in order.
        weights: Name, shape and dtype of each weight.
        foreign: Names of the classes of objects in the checkpoint that were not instantiated.
        files: The files of a sharded checkpoint; empty for a single file.
    """

    path: str
    size: int
    seal: Seal
    meta: dict[str, str]
    sections: list[Section]
    weights: list[tuple[str, tuple[int, ...], str]]
    foreign: list[str]
    files: list[PartFile]


def read_contents(path: "str | os.PathLike[str]") -> Contents:
    """Returns the content of a checkpoint; only the shapes of tensors are read, and nothing is verified.

    Raises:
        CheckpointError: There is no such file, or it is no checkpoint.
    """
    name = os.fspath(path)
    with reading(name):
        seal, size, files = _told_of(name)
        held = shapes_in(name)
        meta = held.get("meta")
        known = {key: _text(meta[key]) for key in _META_KEYS if key in meta} if isinstance(meta, Mapping) else {}
        if trusted := trusted_in(held):
            known["trusted"] = ", ".join(_text(each.get("path", "?")) for each in trusted)
        sections = [_section(str(key), value) for key, value in held.items()]
        foreign = sorted({entry.name for entry in walk(held) if isinstance(entry, Inert)})
        return Contents(name, size, seal, known, sections, _weights(held), foreign, files)


def _told_of(name: str) -> tuple[Seal, int, list[PartFile]]:
    """Returns the seal, the size in bytes and the files of a checkpoint."""
    if is_folder(name):
        layout = read_layout(name)
        return layout.seal, layout.nbytes, _files(layout)
    with opened(name) as stream:
        return read_seal(stream), storage.status(name).size, []


def _files(layout: Layout) -> list[PartFile]:
    """Returns the files of the ranks in order of rank, followed by the state file."""
    held = Counter(chunk.file for tensors in layout.tensors.values() for chunk in tensors.chunks)
    names = sorted(layout.files, key=lambda name: (name == layout.state, len(name), name))
    return [PartFile(name, layout.files[name].size, held[name]) for name in names]


def _section(name: str, value: Any) -> Section:
    tensors = tensors_in(value)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return Section(name, len(tensors), size, "" if tensors else _told(value))


def _told(value: Any) -> str:
    """Describes an entry without tensors."""
    if isinstance(value, Inert):
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
    """Formats a scalar; of any other value only the type, because its text may be arbitrarily long."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, torch.device)):
        return str(value)
    return f"a value of type '{type(value).__name__}'"


def _weights(held: Mapping[Any, Any]) -> list[tuple[str, tuple[int, ...], str]]:
    try:
        weights = weights_of(held)
    except CheckpointError:
        return []
    return [
        (key, tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in weights.items()
        if isinstance(value, torch.Tensor)
    ]
