"""Converts a run's state to the types that `torch.load(..., weights_only=True)` accepts."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from footplate.checkpoint.inert import Inert
from footplate.errors import CheckpointError

_EXACT = frozenset({type(None), bool, float, complex, str, torch.dtype, torch.device})
_LONGEST_NUMBER = 2039  # bits; the maximum that torch's weights-only reader accepts


def to_plain(value: Any, key: str = "") -> Any:
    """Converts `value` to types that can be read back without executing code.

    Tensors are detached. A view of a larger storage is copied, so that the rest of the storage is not written.
    Numpy arrays become tensors, numpy scalars become numbers, other mappings become dicts, named tuples become
    tuples, and deques become lists.

    Args:
        value: The state.
        key: The key path of the state, for the error.

    Raises:
        CheckpointError: Something else is in it; names the key path.
    """
    return _Converter().convert(value, key)


def walk(value: Any) -> Iterator[Any]:
    """Yields `value` and everything inside it, in order; a container that occurs several times is yielded once."""
    pending, seen = [value], set()
    while pending:
        entry = pending.pop()
        inner = _inside(entry)
        if inner is not None:
            if id(entry) in seen:
                continue
            seen.add(id(entry))
            pending.extend(reversed(inner))
        yield entry


def _inside(value: Any) -> list[Any] | None:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, Inert):
        return [value.args, value.state, value.items, value.elements]
    return list(value) if isinstance(value, (list, tuple)) else None


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Returns all tensors of a state, in order."""
    return [entry for entry in walk(value) if isinstance(entry, torch.Tensor)]


def bytes_in(plain: Any) -> int:
    """Returns the size of all tensors of a plain state in bytes; shared storages count once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors_in(plain)}
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


class _Converter:
    def __init__(self) -> None:
        self._above: set[int] = set()

    def convert(self, value: Any, key: str) -> Any:
        if type(value) in _EXACT:
            return value
        for kinds, convert in _LEAVES:
            if isinstance(value, kinds):
                return convert(value, key)
        if id(value) in self._above:
            raise CheckpointError("the state contains itself, which cannot be saved", key=key)
        self._above.add(id(value))
        converted = self._convert_container(value, key)
        self._above.discard(id(value))
        return converted

    def _convert_container(self, value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            return self._convert_mapping(value, key)
        if isinstance(value, (list, deque)):
            return [self.convert(entry, f"{key}[{index}]") for index, entry in enumerate(value)]
        if isinstance(value, tuple):
            return tuple(self.convert(entry, f"{key}[{index}]") for index, entry in enumerate(value))
        if type(value) is set:
            return {_plain_key(entry, key) for entry in value}
        raise _unsupported(value, key)

    def _convert_mapping(self, value: Mapping[Any, Any], key: str) -> dict[Any, Any]:
        plain: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
        for name, entry in value.items():
            path = f"{key}.{name}" if key else str(name)
            plain[_plain_key(name, path)] = self.convert(entry, path)
        metadata = getattr(value, "_metadata", None)  # the layer versions in the state dict of a module
        if isinstance(plain, OrderedDict) and isinstance(metadata, Mapping):
            plain._metadata = self.convert(metadata, f"{key}._metadata")  # type: ignore[attr-defined]
        return plain


def _plain_tensor(value: torch.Tensor, key: str) -> torch.Tensor:
    if type(value) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
        raise _unsupported(value, key)
    value = value.detach()
    if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
        raise CheckpointError(f"a tensor that is {_peculiarity(value)} cannot be saved", key=key)
    value = value.resolve_conj().resolve_neg()
    shown = value.numel() * value.element_size()
    return value.clone() if shown < value.untyped_storage().nbytes() else value


def _peculiarity(value: torch.Tensor) -> str:
    if value.device.type == "meta":
        return "on the device 'meta'"
    return "quantized" if value.is_quantized else f"of layout '{value.layout}'"


def _plain_array(value: "np.ndarray[Any, Any]", key: str) -> Any:
    if value.dtype.kind in "US":
        return value.tolist()
    try:
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise CheckpointError(f"a numpy array of dtype '{value.dtype}' cannot be saved", key=key) from error


def _plain_scalar(value: "np.generic", key: str) -> Any:
    plain = value.item()
    if type(plain) not in (*_EXACT, int, bytes):
        raise _unsupported(value, key)
    return plain


def _plain_number(value: int, key: str) -> int:
    if value.bit_length() > _LONGEST_NUMBER:
        raise CheckpointError("a whole number of more than 2039 bits cannot be saved", key=key)
    return int(value)


def _plain_bytes(value: bytes, key: str) -> bytes:
    if not value:
        raise CheckpointError("empty bytes cannot be saved, for torch's weights-only reader refuses them", key=key)
    return bytes(value)


def _plain_key(key: Any, path: str) -> Hashable:
    plain = key.item() if isinstance(key, np.generic) else key
    if isinstance(plain, tuple):
        return tuple(_plain_key(part, path) for part in plain)
    for kind in (str, bool, int, float):
        if isinstance(plain, kind):
            return kind(plain)
    if plain is None:
        return None
    raise CheckpointError(f"a key of type '{type(key).__name__}' cannot be saved", key=path, found=key)


def _unsupported(value: Any, key: str) -> CheckpointError:
    kind = type(value)
    return CheckpointError(
        f"an object of type '{kind.__module__}.{kind.__qualname__}' cannot be saved in a checkpoint",
        key=key,
        notes=["a state holds tensors, numbers, strings, lists, tuples and dicts"],
    )


# Numpy scalars come first because some of them are also Python numbers or strings.
_LEAVES: tuple[tuple[Any, Callable[[Any, str], Any]], ...] = (
    (torch.Tensor, _plain_tensor),
    (np.ndarray, _plain_array),
    (np.generic, _plain_scalar),
    (str, lambda value, key: str.__str__(value)),
    (int, _plain_number),
    (float, lambda value, key: float(value)),
    (bytes, _plain_bytes),
    (torch.Size, lambda value, key: tuple(value)),
)
