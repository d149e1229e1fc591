"""Verifies and loads checkpoints, and loads weights into models. Executes no code from files."""

import copy
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from footplate import storage
from footplate.checkpoint.addresses import local_file
from footplate.checkpoint.contents import (
    WHOLE_MODEL,
    naming_checkpoint,
    opaque_names,
    open_checkpoint,
    read_outline,
    rename_keys,
    weights_of,
)
from footplate.checkpoint.run_checkpoints import find_first_resumable, read_verified_outline
from footplate.checkpoint.torch_file import read_content
from footplate.checkpoint.transformers_names import convert_names
from footplate.checkpoint.unpickler import OpaqueObject
from footplate.checkpoint_names import SAFETENSORS_SUFFIX, is_sharded_path
from footplate.distributed import unwrap_model
from footplate.distributed.sharding import distribute_like
from footplate.errors import CheckpointDamagedError, CheckpointError, import_optional
from footplate.messages import list_names, nearest

_logger = logging.getLogger("footplate.checkpoint")
_MAX_NAMES = 3
STRIP_WRAPPER = ((r"^module\.", ""),)  # removes the prefix that distributed wrappers add
_COUNTER = "num_batches_tracked"  # missing in files from early torch versions, which is harmless


def load_checkpoint(
    path: "str | os.PathLike[str]",
    map_location: "str | torch.device" = "cpu",
    *,
    like: torch.nn.Module | None = None,
    in_place: bool = False,
) -> dict[str, Any]:
    """Verifies a checkpoint and returns its content.

    Does not import or call anything that the file refers to. Objects saved by other engines become `OpaqueObject`
    placeholders. NumPy arrays remain arrays, and NumPy scalars become numbers.

    Args:
        path: A path on any storage backend that fsspec supports, or the address of weights, such as
            `torchvision://resnet50`; see `footplate.checkpoint.addresses`. The file may be a `.safetensors` file.
        map_location: The device for the tensors. With 'meta', only their shapes are read and nothing is verified.
        like: The model to load into. If its parameters are sharded, all ranks must call this function, and each rank
            reads only its own shards of a sharded checkpoint.
        in_place: Whether to read `path` through fsspec instead of downloading it to the cache. Use this to resume,
            because a cached copy may be outdated.

    Raises:
        CheckpointDamagedError: The content does not match its checksum.
        CheckpointError: The file does not exist, is not a checkpoint, or cannot be downloaded.
        MissingExtraError: The package for `.safetensors` files or `hf://` addresses is not installed.
    """
    name = os.fspath(path)
    device = torch.device(map_location)
    file = name if in_place else local_file(name)
    if file.endswith(SAFETENSORS_SUFFIX):
        return _load_safetensors(file, device)
    try:
        return _load(file, device, like=like)
    except CheckpointDamagedError as error:
        if file != name:
            error.notes = (*error.notes, "Remove the file to download it again.")
        raise


def load_newest(folder: "str | os.PathLike[str]") -> tuple[str, dict[str, Any] | None] | None:
    """Loads the newest intact checkpoint of a run; see `find_newest`. Reads the file only once.

    Returns:
        The path and the content on the CPU, or None if the run has no checkpoint to resume from. For a sharded
        checkpoint, the content is None, because each rank must load such a checkpoint itself.

    Raises:
        CheckpointError: See `find_newest`.
    """

    def read(path: str) -> Mapping[Any, Any]:
        return read_verified_outline(path) if is_sharded_path(path) else _load(path, torch.device("cpu"))

    newest = find_first_resumable(folder, read)
    if newest is None:
        return None
    path, content = newest
    return path, None if is_sharded_path(path) else dict(content)


def _load(name: str, device: torch.device, *, like: torch.nn.Module | None = None) -> dict[str, Any]:
    if is_sharded_path(name) and device.type == "meta":
        loaded: Any = read_outline(name).content
    elif is_sharded_path(name):
        from footplate.checkpoint.sharded import load_sharded  # slow to import

        with naming_checkpoint(name):
            loaded = load_sharded(name, device, like)
    else:
        with open_checkpoint(name) as stream:
            loaded = read_content(stream, device=device).value
        if names := opaque_names(loaded):
            message = "Checkpoint '%s' contains objects of these classes, which were not instantiated: %s."
            _logger.info(message, name, list_names(names, _MAX_NAMES))
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"'{name}' does not contain a dict",
            found=loaded.name if isinstance(loaded, OpaqueObject) else type(loaded).__name__,
            notes=[WHOLE_MODEL],
        )
    return loaded if isinstance(loaded, dict) else dict(loaded)  # a state dict keeps its `_metadata`


def _load_safetensors(path: str, device: torch.device) -> dict[str, torch.Tensor]:
    package = import_optional("safetensors.torch", extra="export", why=f"reading '{path}'")
    with naming_checkpoint(path):
        content = storage.read_bytes(path)
    try:
        tensors: dict[str, torch.Tensor] = package.load(content)
    except Exception as error:  # safetensors raises its own exception type, among others
        raise CheckpointDamagedError(f"checkpoint '{path}' is damaged: {error}") from error
    return {key: value.to(device) for key, value in tensors.items()}


class Mismatch(NamedTuple):
    """A tensor whose shape differs between the file and the model."""

    key: str
    saved: tuple[int, ...]
    expected: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.key}: {list(self.saved)} in the file, {list(self.expected)} in the model"


@dataclass(frozen=True)
class LoadReport:
    """The result of loading weights. `str()` returns a readable summary.

    Attributes:
        source: The source of the weights, such as a file.
        loaded: Model keys that were loaded.
        missing: Model keys that are not in the file.
        unexpected: File keys that are not in the model.
        mismatched: Keys whose shapes differ between the file and the model. The model keeps its own values for these.
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
                f"'{self.source}' does not contain all of the model's weights: {kept} of {len(self.loaded) + kept} "
                "tensors would keep their initial values",
                notes=[*self.differences(), "Use the config or model that the checkpoint was trained with."],
            )

    def __str__(self) -> str:
        count = len(self.loaded) + len(self.missing) + len(self.mismatched)
        return "\n".join([f"Loaded {len(self.loaded)} of {count} tensors from '{self.source}'", *self.differences()])

    def differences(self) -> list[str]:
        """Returns one line for each kind of difference, with some of the keys."""
        kinds: dict[str, Sequence[object]] = {
            "missing from the file": self.missing,
            "not in the model": self.unexpected,
            "with a different shape": self.mismatched,
        }
        return [f"  {kind} ({len(keys)}): {list_names(keys, _MAX_NAMES)}" for kind, keys in kinds.items() if keys]


def load_weights(
    module: torch.nn.Module,
    source: "str | os.PathLike[str] | Mapping[str, Any]",
    *,
    strict: bool = False,
    revise_keys: Iterable[tuple[str, str]] = STRIP_WRAPPER,
    prefix: str | None = None,
    name: str | None = None,
) -> LoadReport:
    r"""Loads the matching weights from a checkpoint into a model and logs the differences.

    Into models of the package transformers, weights that transformers has saved are loaded as by `from_pretrained`.

    Args:
        module: The model. For a distributed wrapper, the weights are loaded into the wrapped model.
        source: The path or address of a checkpoint, its content, or a plain state dict.
        strict: Whether to raise an error for missing, unexpected or mismatched keys.
        revise_keys: (regular expression, replacement) pairs, which are applied to each key in order. The default
            removes the prefix `module.` that distributed wrappers add, unless the model itself has a submodule of this
            name and the weights match it.
        prefix: A prefix such as "backbone.". Loads only keys with this prefix, and strips it from them.
        name: The name of the source in messages. Defaults to the path of the file.

    Raises:
        CheckpointDamagedError: The file does not match its checksum.
        CheckpointError: The source has no weights, no weights match the model, or `strict` is set and keys or shapes
            differ.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> weights = {"head.weight": torch.ones(1, 2), "head.bias": torch.zeros(1)}
        >>> print(load_weights(model, weights, revise_keys=[(r"^head\.", "")]))
        Loaded 2 of 2 tensors from 'a state dict'
    """
    if isinstance(source, Mapping):
        content = source
        name = name or "a state dict"
    else:
        content = load_checkpoint(source)
        name = name or os.fspath(source)
    weights = weights_of(content, name)
    module = unwrap_model(module)
    pairs = tuple(revise_keys)
    if pairs == STRIP_WRAPPER and any(key.startswith("module.") for key in weights.keys() & module.state_dict().keys()):
        pairs = ()
    weights = rename_keys(weights, pairs, prefix=prefix, source=name)
    convert_names(module, weights)
    add_empty_buffers(module, weights)
    expected = {key: value for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    for key, value in weights.items():
        if key in expected and torch.is_tensor(value):
            weights[key] = distribute_like(value, expected[key])
    report = _copy_into(module, weights, expected, name)
    if not report.loaded and (report.missing or report.mismatched):
        raise _no_match_error(report)
    if strict and not report.is_complete:
        raise CheckpointError(f"the weights in '{name}' do not match the model", notes=report.differences())
    _logger.log(logging.INFO if report.is_complete else logging.WARNING, "%s", report)
    return report


def add_empty_buffers(module: torch.nn.Module, weights: Mapping[str, Any]) -> None:
    """Creates the buffers that are None until a forward pass sets them, if `weights` contains their values."""
    for path, owner in module.named_modules():
        for name in owner._buffers.keys() - owner._non_persistent_buffers_set:
            value = weights.get(f"{path}.{name}".lstrip("."))
            # In a normalization layer, such a buffer may also mean that it keeps no statistics.
            if owner._buffers[name] is None and torch.is_tensor(value) and getattr(owner, "track_running_stats", True):
                owner._buffers[name] = value.to(next(module.parameters(), value).device, copy=True)


def _copy_into(
    module: torch.nn.Module, weights: dict[str, Any], expected: Mapping[str, torch.Tensor], name: str
) -> LoadReport:
    """Loads the weights with matching shapes into the model.

    Raises:
        CheckpointError: Loading fails for a reason other than mismatched shapes.
    """
    mismatched = []
    try:
        missing, unexpected = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        # Modules may adapt shapes while loading, so mismatches are known only after torch fails.
        fitting = copy.copy(weights)  # with its `_metadata`
        for key, value in expected.items():
            saved = weights.get(key)
            if isinstance(saved, torch.Tensor) and saved.shape != value.shape:
                mismatched.append(Mismatch(key, tuple(saved.shape), tuple(value.shape)))
                del fitting[key]
        if not mismatched:
            raise CheckpointError(f"the weights in '{name}' cannot be loaded: {error}") from error
        missing, unexpected = module.load_state_dict(fitting, strict=False)
    missing = _without_tied(module, missing)
    counters = {key for key in (*expected, *missing) if key.endswith(_COUNTER) and key not in weights}
    not_loaded = counters.union(missing)
    return LoadReport(
        name,
        loaded=tuple(key for key in expected if key not in not_loaded),
        # Some modules, such as the attention of Swin V2, skip their own constants while loading.
        missing=tuple(key for key in missing if key not in weights and key not in counters),
        unexpected=tuple(unexpected),
        mismatched=tuple(mismatched),
    )


def _without_tied(module: torch.nn.Module, missing: Sequence[str]) -> list[str]:
    """Leaves out the names of parameters that were loaded under another name, as in transformers' files."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    loaded = {id(parameter) for key, parameter in parameters.items() if key not in missing}
    return [key for key in missing if id(parameters.get(key)) not in loaded]


def _no_match_error(report: LoadReport) -> CheckpointError:
    notes = report.differences()[-1:]
    if report.unexpected and not report.mismatched:
        first, missing = report.unexpected[0], set(report.missing)
        dots = ((key, match.end()) for key in report.unexpected for match in re.finditer(r"\.", key))
        prefixes = Counter(key[:end] for key, end in dots if key[end:] in missing).most_common(1)
        advice = "To convert one to the other, pass `revise_keys` and `prefix` to load_weights or PretrainedInit."
        if prefixes and 2 * prefixes[0][1] > len(missing):
            advice = f"Pass `prefix={prefixes[0][0]!r}` to load_weights or PretrainedInit (in `init_cfg`)."
        notes = [
            f"a key in the file: {first}",
            f"a key in the model: {nearest(first, report.missing) or report.missing[0]}",
            advice,
        ]
    return CheckpointError(f"no weights in '{report.source}' match the model", notes=notes)
