"""Lists the content of a checkpoint without reading its tensors, and finds the weights in a checkpoint."""

import os
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch

from footplate import storage
from footplate.checkpoint.digest import Digest
from footplate.checkpoint.serializable import tensors_in, walk
from footplate.checkpoint.unpickler import OpaqueObject
from footplate.checkpoint.verifying import naming_checkpoint, read_outline
from footplate.errors import CheckpointError
from footplate.messages import list_names

_MOST_KEYS = 8  # the maximum number of keys that are shown for a dict
_SHOWN_KEYS = 10
_WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "module", "weights")
_LONGEST_KEYS = 32 << 20  # for all keys of a pickled module: their characters, and _BYTES_PER_KEY for each key
_BYTES_PER_KEY = 200
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


def weights_of(content: Any, source: str = "a checkpoint") -> "OrderedDict[str, Any]":
    """Returns the tensors and extra states in a checkpoint from footplate or another engine, or in a plain state dict.

    NumPy arrays are converted to tensors.

    Args:
        content: The result of `load_checkpoint`.
        source: The name of the checkpoint, for the error message.

    Raises:
        CheckpointError: The content has no weights.
    """
    mapping = _as_mapping(content)
    for key in (*_WEIGHT_KEYS, None):  # one at a time, because expanding a pickled module takes memory
        weights: OrderedDict[str, Any] = OrderedDict()
        inner = _as_mapping(mapping.get(key)) if mapping and key else mapping
        for name, value in (inner or {}).items():
            if isinstance(value, np.ndarray):
                with suppress(TypeError):  # torch does not support all dtypes of numpy
                    value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
            if isinstance(value, torch.Tensor) or str(name).endswith("_extra_state"):
                weights[str(name)] = value
        if any(isinstance(value, torch.Tensor) for value in weights.values()):
            versions = getattr(inner, "_metadata", {})
            weights._metadata = versions if isinstance(versions, Mapping) else {}  # type: ignore[attr-defined]
            return weights
    found = ", ".join(map(str, list(mapping)[:_SHOWN_KEYS])) if mapping else type(content).__name__
    raise CheckpointError(f"'{source}' has no weights", found=found)


def rename_keys(
    weights: Mapping[str, Any],
    revise_keys: Iterable[tuple[str, str]] = (),
    *,
    prefix: str | None = None,
    source: str = "a state dict",
) -> "OrderedDict[str, Any]":
    """Returns the weights with revised keys; see `load_weights`.

    Raises:
        CheckpointError: No key starts with `prefix`, or two keys are renamed to the same key.
    """
    pairs = [(re.compile(pattern), replacement) for pattern, replacement in revise_keys]
    start = prefix if not prefix or prefix.endswith(".") else f"{prefix}."

    def rename(key: str) -> str | None:
        for pattern, replacement in pairs:
            key = pattern.sub(replacement, key)
        if not start:
            return key
        return key[len(start) :] if key.startswith(start) else None

    renamed: OrderedDict[str, Any] = OrderedDict()
    for old, value in weights.items():
        new = rename(old)
        if new in renamed:
            raise CheckpointError(f"two keys of '{source}' are both renamed to '{new}'", key="revise_keys")
        if new is not None:
            renamed[new] = value
    if start and not renamed:
        raise CheckpointError(f"no key in '{source}' starts with '{start}'", found=list(weights)[:_SHOWN_KEYS])
    versions = getattr(weights, "_metadata", {})
    # The version of a layer is stored under its name without the dot.
    layers = {rename(f"{layer}." if layer else ""): value for layer, value in versions.items()}
    renamed._metadata = {layer.rstrip("."): value for layer, value in layers.items() if layer is not None}  # type: ignore[attr-defined]
    return renamed


def _as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """Returns the entries of a mapping, a pickled dict or a pickled module. Returns None for other values.

    Raises:
        CheckpointError: The modules of a pickled module contain a circular reference.
    """
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, OpaqueObject):
        return None
    state = value.items or (value.state if isinstance(value.state, dict) else {})
    if value.items or "_parameters" not in state:
        return state
    tensors: dict[str, torch.Tensor] = {}
    pending, left = [("", state)], _LONGEST_KEYS
    while pending:
        prefix, state = pending.pop()
        entries = (state.get(kind) for kind in ("_parameters", "_buffers", "_modules"))
        parameters, buffers, modules = (each if isinstance(each, Mapping) else {} for each in entries)
        for name, entry in (*parameters.items(), *buffers.items()):
            left -= len(prefix) + _BYTES_PER_KEY
            if left < 0:
                break
            if isinstance(entry, torch.Tensor):
                tensors[f"{prefix}{name}"] = entry
        children = [
            (f"{prefix}{name}.", child.state)
            for name, child in modules.items()
            if isinstance(child, OpaqueObject) and isinstance(child.state, dict)
        ]
        left -= sum(len(each) + _BYTES_PER_KEY for each, _ in children)
        if left < 0:
            raise CheckpointError("its modules contain a circular reference")
        pending.extend(reversed(children))
    return tensors


def trusted_in(checkpoint: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the trusted files that a checkpoint lists in its metadata."""
    meta = checkpoint.get("meta")
    found = meta.get("trusted") if isinstance(meta, Mapping) else None
    return [dict(each) for each in found if isinstance(each, Mapping)] if isinstance(found, (list, tuple)) else []
