"""Lists the content of checkpoints without reading tensor values."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import torch

from footplate import storage
from footplate.checkpoint import Digest, OpaqueObject, weights_of
from footplate.checkpoint.contents import naming_checkpoint, opaque_names, read_outline
from footplate.checkpoint.serializable import tensors_in
from footplate.checkpoint_names import is_sharded_path
from footplate.errors import CheckpointError
from footplate.messages import list_names

_MAX_KEYS = 10
_META_KEYS = ("epoch", "iter", "time", "experiment_name", "seed", "hparams", "footplate_version", "mmengine_version")


class ContentSection(NamedTuple):
    """A top-level entry of a checkpoint."""

    name: str  # the key
    tensors: int  # the number of tensors in the entry
    size: int  # the size of these tensors in bytes
    text: str  # for an entry without tensors, its value or keys; otherwise empty


class Contents(NamedTuple):
    """A summary of a checkpoint's content."""

    path: str  # the file or folder
    size: int  # the size in bytes
    digest: Digest  # the recorded digest and time, not verified; the SHA-256 is None if another program wrote the file
    meta: dict[str, str]  # epoch, iteration, seed and other metadata
    sections: list[ContentSection]  # the top-level entries, in order
    weights: list[tuple[str, tuple[int, ...], str]]  # name, shape and dtype of each weight
    opaque_names: list[str]  # the class names of objects that were not instantiated


def read_contents(path: "str | os.PathLike[str]") -> Contents:
    """Lists the content of a checkpoint. Reads only the shapes of tensors, without verification.

    Raises:
        CheckpointError: The file does not exist or is not a checkpoint.
    """
    name = os.fspath(path)
    with naming_checkpoint(name):
        content, digest = read_outline(name)
        sections = []
        for key, value in content.items():
            tensors = tensors_in(value)
            size = sum(tensor.nbytes for tensor in tensors)
            sections.append(ContentSection(str(key), len(tensors), size, "" if tensors else _describe(value)))
        meta = content.get("meta")
        known = {key: str(meta[key]) for key in _META_KEYS if key in meta} if isinstance(meta, Mapping) else {}
        weights: Mapping[str, Any] = {}
        with suppress(CheckpointError):  # the checkpoint has no weights
            weights = weights_of(content)
        files = [storage.join(name, part) for part in storage.list_dir(name)] if is_sharded_path(name) else [name]
        return Contents(
            name,
            sum(storage.status(file).size for file in files),
            digest,
            known,
            sections,
            [
                (key, tuple(value.shape), str(value.dtype).removeprefix("torch."))
                for key, value in weights.items()
                if isinstance(value, torch.Tensor)
            ],
            opaque_names(content),
        )


def _describe(value: Any) -> str:
    """Returns a short description of an entry that contains no tensors."""
    if isinstance(value, OpaqueObject):
        return f"an object of class {value.name}"
    if isinstance(value, Mapping):
        return list_names(value, _MAX_KEYS) or "empty"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"{len(value)} values" if value else "empty"
    return repr(value) if isinstance(value, str) else str(value)
