"""Exports the weights of a checkpoint to a file for other programs."""

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from footplate import storage
from footplate.checkpoint import _safetensors
from footplate.checkpoint.inert.budget import check_separate_copies
from footplate.checkpoint.loading import load_checkpoint
from footplate.checkpoint.naming import SUFFIXES
from footplate.checkpoint.saving import save_checkpoint
from footplate.checkpoint.trust import trusted_files, trusted_in
from footplate.checkpoint.weights import revised, weights_of
from footplate.errors import ArgumentError, CheckpointError

LAYOUTS = ("plain", "mmengine")
_META_KEYS = ("epoch", "iter", "time", "seed", "experiment_name", "dataset_meta")


def export_weights(
    source: "str | os.PathLike[str]",
    target: "str | os.PathLike[str]",
    *,
    section: str | None = None,
    revise_keys: Iterable[tuple[str, str]] = (),
    prefix: str | None = None,
    add_prefix: str = "",
    layout: str = "plain",
) -> int:
    r"""Writes only the weights of a checkpoint to a file.

    Args:
        source: A checkpoint of footplate or another engine, or a safetensors file.
        target: The output file. `.pth`, `.pt` and `.ckpt` are written by `torch.save`, `.safetensors` by safetensors.
        section: The entry that contains the weights, such as `ema_state_dict`; detected by default.
        revise_keys: Pairs (regular expression, replacement), applied to each key in this order.
        prefix: Selects the keys that start with this prefix and removes it from them.
        add_prefix: A prefix to add to every key.
        layout: "plain" for a bare state dict, "mmengine" for the entries `meta` and `state_dict`, which the
            engines of both generations read.

    Returns:
        The number of tensors.

    Raises:
        CheckpointError: There are no such weights, two keys become one, or the target cannot be written.
        ArgumentError: The target is the source, or its suffix names no format that is written; there is no such layout,
            or safetensors cannot say it.
        MissingExtraError: safetensors is asked for and not installed.
    """
    storage.check_output(target, suffixes=(*SUFFIXES, _safetensors.SUFFIX), inputs=[source])
    name, is_safetensors = os.fspath(target), os.fspath(target).endswith(_safetensors.SUFFIX)
    if layout not in LAYOUTS or (layout != "plain" and is_safetensors):
        raise ArgumentError(f"'{name}' cannot have this layout", key="layout", found=layout)
    content = load_checkpoint(source)
    weights = _section(content, section, os.fspath(source))
    chosen = revised(weights, revise_keys, prefix=prefix, source=os.fspath(source))
    tensors = {add_prefix + key: value for key, value in chosen.items() if isinstance(value, torch.Tensor)}
    if is_safetensors:
        _save_safetensors(tensors, name, os.fspath(source))
    elif layout == "mmengine":
        meta = content.get("meta")
        kept = {key: meta[key] for key in _META_KEYS if key in meta} if isinstance(meta, Mapping) else {}
        trusted = trusted_files(trusted_in(content))
        kept |= {"trusted": trusted} if trusted else {}
        save_checkpoint({"meta": kept, "state_dict": OrderedDict(tensors)}, name)
    else:
        save_checkpoint(OrderedDict(tensors), name)
    return len(tensors)


def _section(content: Mapping[str, Any], section: str | None, source: str) -> "OrderedDict[str, Any]":
    if section is None:
        return weights_of(content, source)
    if section not in content:
        raise CheckpointError(f"there is no '{section}' in '{source}'", found=list(content))
    return weights_of(content[section], f"{source}: {section}")


def _save_safetensors(tensors: Mapping[str, torch.Tensor], path: str, source: str) -> None:
    try:
        check_separate_copies(list(tensors.values()))
    except CheckpointError as error:
        raise CheckpointError(f"cannot export '{source}' to safetensors: {error.message}") from error
    try:
        _safetensors.save(tensors, path)
    except OSError as error:
        raise CheckpointError(f"cannot save '{path}': {error.strerror or error}") from error
