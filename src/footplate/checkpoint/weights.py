"""Loads weights into a model and reports missing, unexpected and mismatched keys."""

import logging
import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from footplate.checkpoint.loading import load_checkpoint
from footplate.checkpoint.unpickler import OpaqueObject
from footplate.distributed import unwrap_model
from footplate.distributed.sharding import distribute_like, is_dtensor
from footplate.errors import CheckpointError
from footplate.messages import list_names, nearest

_logger = logging.getLogger("footplate.checkpoint")
_SHOWN_KEYS = 10
_LONGEST_KEYS = 32 << 20  # for all keys of a pickled module: their characters, and _BYTES_PER_KEY for each key
_BYTES_PER_KEY = 200
_WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "module", "weights")
_STRIP_WRAPPER = ((r"^module\.", ""),)
_COUNTER = "num_batches_tracked"  # files of early torch versions lack it, which does no harm


class Mismatch(NamedTuple):
    """A tensor with different shapes in the file and in the model."""

    key: str
    saved: tuple[int, ...]
    expected: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.key}: {list(self.saved)} in the file, {list(self.expected)} in the model"


@dataclass(frozen=True)
class LoadReport:
    """The result of loading weights. `str()` returns a readable summary.

    Attributes:
        source: The file or other source of the weights.
        loaded: Keys of the model that were loaded.
        missing: Keys of the model that are not in the file.
        unexpected: Keys of the file that are not in the model.
        mismatched: Keys whose shapes in the file and in the model differ. The values in the model are unchanged.
    """

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the file and the model have the same keys and shapes."""
        return not (self.missing or self.unexpected or self.mismatched)

    def require_whole_model(self) -> None:
        """Checks that every tensor of the model was loaded.

        Raises:
            CheckpointError: A tensor is missing or has a different shape.
        """
        kept = len(self.missing) + len(self.mismatched)
        if kept:
            raise CheckpointError(
                f"'{self.source}' does not contain all the weights of the model: {kept} of {len(self.loaded) + kept} "
                "tensors would keep their initial values",
                notes=[
                    *_list_keys("missing from the file", self.missing),
                    *_list_keys("with a different shape", self.mismatched),
                    "Use the config that the checkpoint was trained with.",
                ],
            )

    def __str__(self) -> str:
        count = len(self.loaded) + len(self.missing) + len(self.mismatched)
        lines = [f"Loaded {len(self.loaded)} of {count} tensors from '{self.source}'"]
        lines += _list_keys("missing from the file", self.missing)
        lines += _list_keys("not in the model", self.unexpected)
        lines += _list_keys("with a different shape", self.mismatched)
        return "\n".join(lines)


def load_weights(
    module: torch.nn.Module,
    source: "str | os.PathLike[str] | Mapping[str, Any]",
    *,
    strict: bool = False,
    revise_keys: Iterable[tuple[str, str]] = _STRIP_WRAPPER,
    prefix: str | None = None,
    name: str | None = None,
) -> LoadReport:
    r"""Loads the matching weights from a checkpoint into a model and logs the differences.

    Args:
        module: The model. If it is wrapped for distributed training, the weights are loaded into the wrapped model.
        source: The path or address of a checkpoint, its content, or a plain state dict.
        strict: Whether to raise an error for missing, unexpected or mismatched keys.
        revise_keys: Pairs (regular expression, replacement), applied to each key in the given order. The default
            removes the prefix that distributed wrappers add.
        prefix: Loads only the keys that start with this prefix, such as "backbone.", and removes the prefix from them.
        name: The name of the source in messages. By default, the path of the file.

    Raises:
        CheckpointDamagedError: The file does not match its checksum.
        CheckpointError: The source has no weights, no weight fits the model, or `strict` is set and the keys or shapes
            differ.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> weights = {"head.weight": torch.ones(1, 2), "head.bias": torch.zeros(1)}
        >>> print(load_weights(model, weights, revise_keys=[(r"^head\.", "")]))
        Loaded 2 of 2 tensors from 'a state dict'
    """
    is_given = isinstance(source, Mapping)
    name = name or ("a state dict" if is_given else os.fspath(source))  # type: ignore[arg-type]
    content = source if is_given else load_checkpoint(source)  # type: ignore[arg-type]
    weights = rename_keys(weights_of(content, name), revise_keys, prefix=prefix, source=name)
    module, mismatched = unwrap_model(module), []
    expected = {key: value for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    if any(is_dtensor(each) for each in (*expected.values(), *weights.values()) if torch.is_tensor(each)):
        for key in [key for key in weights if key in expected and torch.is_tensor(weights[key])]:
            weights[key] = distribute_like(weights[key], expected[key])
    try:
        missing, unexpected = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        # A module may adapt shapes while loading, so mismatches are unknown until torch fails.
        fitting = OrderedDict(weights)
        for key, value in expected.items():
            saved = weights.get(key)
            if isinstance(saved, torch.Tensor) and saved.shape != value.shape:
                mismatched.append(Mismatch(key, tuple(saved.shape), tuple(value.shape)))
                del fitting[key]
        if not mismatched:
            raise CheckpointError(f"the weights in '{name}' cannot be loaded: {error}") from error
        missing, unexpected = module.load_state_dict(fitting, strict=False)
    lacking = set(missing)
    differing = {entry.key for entry in mismatched}
    report = LoadReport(
        name,
        loaded=tuple(key for key in expected if key not in lacking and (key in weights or not key.endswith(_COUNTER))),
        missing=tuple(key for key in missing if key not in differing and not key.endswith(_COUNTER)),
        unexpected=tuple(unexpected),
        mismatched=tuple(mismatched),
    )
    if not report.loaded and (report.missing or report.mismatched):
        notes = _list_keys("with a different shape", report.mismatched)
        notes = notes or ["The file has no tensors under this prefix."]
        if report.unexpected and not report.mismatched:
            first = report.unexpected[0]
            notes = [
                f"a key of the file: {first}",
                f"a key of the model: {nearest(first, report.missing) or report.missing[0]}",
                "Use `revise_keys` and `prefix` to convert one to the other.",
            ]
        raise CheckpointError(f"no weight in '{name}' fits the model", notes=notes)
    if strict and not report.is_complete:
        raise CheckpointError(f"the weights in '{name}' do not fit the model", notes=str(report).split("\n")[1:])
    _logger.log(logging.INFO if report.is_complete else logging.WARNING, "%s", report)
    return report


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


def _list_keys(title: str, entries: Sequence[object]) -> list[str]:
    if not entries:
        return []
    return [f"  {title} ({len(entries)}): {list_names(entries, _SHOWN_KEYS)}"]
