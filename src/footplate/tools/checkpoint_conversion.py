"""Converts checkpoints: exports and averages weights, and joins sharded checkpoints."""

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from footplate import storage
from footplate.checkpoint import load_checkpoint, rename_keys, save_checkpoint, weights_of
from footplate.checkpoint.contents import explaining, read_layout
from footplate.checkpoint_names import SAFETENSORS_SUFFIX, SUFFIXES
from footplate.errors import ArgumentError, CheckpointError, import_optional
from footplate.tools.output_check import check_output


def export_weights(
    source: "str | os.PathLike[str]",
    target: "str | os.PathLike[str]",
    *,
    revise_keys: Iterable[tuple[str, str]] = (),
    prefix: str | None = None,
) -> int:
    """Writes only the weights of a checkpoint to a file.

    Args:
        source: A checkpoint from footplate or another engine, or a safetensors file.
        target: The output file. Its suffix selects the format: `.safetensors`, or a PyTorch file for `.pth`, `.pt` and
            `.ckpt`.
        revise_keys: Pairs (regular expression, replacement), applied to each key in the given order, before `prefix`.
        prefix: Exports only the keys that start with this prefix, and removes the prefix from them.

    Returns:
        The number of tensors.

    Raises:
        CheckpointError: The source does not contain the requested weights, two keys are renamed to the same key, or the
            target cannot be written.
        ArgumentError: The target and the source are the same file, or the target has an unsupported suffix.
        MissingExtraError: The target is a safetensors file, and the safetensors package is not installed.
    """
    check_output(target, suffixes=(*SUFFIXES, SAFETENSORS_SUFFIX), inputs=[source])
    origin, name = os.fspath(source), os.fspath(target)
    weights = weights_of(load_checkpoint(source), origin)
    tensors = _dense_tensors(rename_keys(weights, revise_keys, prefix=prefix, source=origin), origin)
    if name.endswith(SAFETENSORS_SUFFIX):
        write_safetensors(tensors, name)
    else:
        save_checkpoint(OrderedDict(tensors), name)
    return len(tensors)


def average_weights(paths: "Sequence[str | os.PathLike[str]]") -> "OrderedDict[str, torch.Tensor]":
    """Returns the mean of several checkpoints' weights.

    Sums are computed in float64. Dtypes and integer tensors, such as counters, are taken from the last checkpoint. Only
    one file is in memory at a time.

    Args:
        paths: The checkpoints.

    Raises:
        ArgumentError: There are no paths.
        CheckpointError: A file cannot be read, its weights differ from the first file's in name, shape or type, or a
            tensor is sparse.

    Source: https://arxiv.org/abs/1803.05407
    """
    if not paths:
        raise ArgumentError("averaging needs at least one checkpoint")
    sums: dict[str, torch.Tensor] = {}
    expected: dict[str, Any] = {}
    for path in [os.fspath(each) for each in paths]:
        weights = weights_of(load_checkpoint(path), path)
        tensors = _dense_tensors(weights, path)
        found = {key: (value.shape, value.is_floating_point()) for key, value in tensors.items()}
        expected = expected or found
        if differing := sorted(key for key in {**expected, **found} if expected.get(key) != found.get(key)):
            message = f"'{path}' and the first checkpoint differ in the names, shapes or types of weights"
            raise CheckpointError(message, found=differing)
        for key, value in tensors.items():
            if value.is_floating_point() or value.is_complex():
                wide = torch.complex128 if value.is_complex() else torch.float64
                sums.setdefault(key, torch.zeros(value.shape, dtype=wide)).add_(value.to(wide), alpha=1 / len(paths))
    for key in tuple(sums):
        weights[key] = sums.pop(key).to(weights[key].dtype)
    return weights


def _dense_tensors(weights: Mapping[str, Any], source: str) -> dict[str, torch.Tensor]:
    """Returns the tensors among some weights.

    Raises:
        CheckpointError: A tensor is sparse. Neither file format can store it.
    """
    tensors = {key: value for key, value in weights.items() if isinstance(value, torch.Tensor)}
    for key, value in tensors.items():
        if value.layout is not torch.strided:
            notes = ["Convert it first, with to_dense()."]
            raise CheckpointError(f"'{source}' contains a sparse tensor", key=key, found=value.layout, notes=notes)
    return tensors


def consolidate(source: "str | os.PathLike[str]", target: "str | os.PathLike[str]") -> int:
    """Verifies a sharded checkpoint and writes it to a single file. All its tensors must fit into memory.

    Returns:
        The number of sharded tensors.

    Raises:
        CheckpointError: The folder is not an intact checkpoint, or the file cannot be written.
        ArgumentError: `target` has an unsupported suffix, or is inside the folder.
    """
    check_output(target, suffixes=SUFFIXES, inputs=[source])
    count = len(read_layout(os.fspath(source), "meta").tensors)
    save_checkpoint(load_checkpoint(source), target)
    return count


def write_safetensors(tensors: Mapping[str, torch.Tensor], path: str) -> None:
    """Writes tensors to a safetensors file.

    Raises:
        CheckpointError: The file cannot be written.
        MissingExtraError: The safetensors package is not installed.
    """
    package = import_optional("safetensors.torch", extra="export", why=f"writing '{path}'")
    # The format supports neither shared memory nor strides.
    separate = {key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    with explaining(f"cannot save '{path}'"):
        storage.commit_bytes(path, package.save(separate, metadata={"format": "pt"}))
