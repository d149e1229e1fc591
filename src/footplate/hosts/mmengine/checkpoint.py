"""The functions of `mmengine.runner.checkpoint`. No code from a checkpoint is executed."""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from footplate.checkpoint import find_latest, load_weights
from footplate.checkpoint import load_checkpoint as _read
from footplate.checkpoint import save_checkpoint as _save
from footplate.hosts.mmengine.storage_backends import get_file_backend
from footplate.models import trained_model

Loader = Callable[..., Any]
ReviseKeys = Sequence[tuple[str, str]]
_STRIP_WRAPPER: ReviseKeys = ((r"^module\.", ""),)


class CheckpointLoader:
    """Loads each checkpoint with the loader registered for the prefix of its address. Code bases may add loaders."""

    _schemes: ClassVar[dict[str, Loader]] = {}

    @classmethod
    def register_scheme(cls, prefixes: str | Sequence[str], loader: Loader | None = None, force: bool = False) -> Any:
        """Registers a function `(filename, map_location) -> checkpoint`. Without `loader`, returns a decorator.

        Args:
            prefixes: One or several prefixes.
            loader: The function.
            force: Whether to replace a registered loader.

        Raises:
            KeyError: A prefix is already registered and `force` is not set.
        """

        def register(found: Loader) -> Loader:
            for prefix in [prefixes] if isinstance(prefixes, str) else prefixes:
                if prefix in cls._schemes and not force:
                    raise KeyError(f"'{prefix}' is already registered. Pass force=True to replace it.")
                cls._schemes[prefix] = found
            return found

        return register if loader is None else register(loader)

    @classmethod
    def load_checkpoint(cls, filename: str, map_location: Any = None, logger: Any = "current") -> Any:
        """Loads a checkpoint from a path or address.

        Args:
            filename: A path, or an address with a prefix.
            map_location: The device for the tensors; the CPU by default.
            logger: Ignored; messages go to footplate's log.
        """
        for prefix in sorted(cls._schemes, key=len, reverse=True):
            if re.match(prefix, str(filename)):
                return cls._schemes[prefix](filename, map_location)
        return _read(filename, map_location or "cpu")


def _load_checkpoint(filename: str, map_location: Any = None, logger: Any = None) -> Any:
    """Loads a checkpoint from a path or address."""
    return CheckpointLoader.load_checkpoint(filename, map_location, logger)


def _load_checkpoint_with_prefix(prefix: str, filename: str, map_location: Any = None) -> "OrderedDict[str, Any]":
    """Returns the weights from a checkpoint whose keys start with a prefix. Removes the prefix from the keys.

    Raises:
        AssertionError: No key has the prefix.
    """
    checkpoint = _load_checkpoint(filename, map_location)
    weights = checkpoint.get("state_dict", checkpoint)
    start = prefix if prefix.endswith(".") else f"{prefix}."
    found = OrderedDict((key[len(start) :], value) for key, value in weights.items() if key.startswith(start))
    if not found:
        raise AssertionError(f"No key in '{filename}' starts with '{start}'.")
    return found


def _load_checkpoint_to_model(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    strict: bool = False,
    logger: Any = None,
    revise_keys: ReviseKeys = _STRIP_WRAPPER,
) -> Any:
    """Loads the weights of a checkpoint into a model and returns the checkpoint."""
    load_weights(trained_model(model), checkpoint, strict=strict, revise_keys=revise_keys)
    return checkpoint


def load_state_dict(module: nn.Module, state_dict: Mapping[str, Any], strict: bool = False, logger: Any = None) -> None:
    """Loads a state dict into a module and logs mismatches."""
    load_weights(trained_model(module), dict(state_dict), strict=strict)


def load_checkpoint(
    model: nn.Module,
    filename: str,
    map_location: Any = None,
    strict: bool = False,
    logger: Any = None,
    revise_keys: ReviseKeys = _STRIP_WRAPPER,
) -> Any:
    """Loads the weights of the checkpoint at a path or address into a model and returns the checkpoint.

    Args:
        model: The model, wrapped or not.
        filename: The path or address.
        map_location: The device for the tensors; the CPU by default.
        strict: Whether all keys must match.
        logger: Ignored; mismatches are reported in footplate's log.
        revise_keys: Pairs of a regular expression and its replacement, applied to the keys.
    """
    checkpoint = _load_checkpoint(filename, map_location)
    load_weights(trained_model(model), checkpoint, strict=strict, revise_keys=revise_keys, name=str(filename))
    return checkpoint


def save_checkpoint(
    checkpoint: Mapping[str, Any],
    filename: str,
    file_client_args: Mapping[str, Any] | None = None,
    backend_args: Mapping[str, Any] | None = None,
) -> None:
    """Saves a checkpoint atomically, on any storage backend.

    Args:
        checkpoint: The content.
        filename: The path.
        file_client_args: An old name for `backend_args`.
        backend_args: See `get_file_backend`. Its path mapping, if any, is applied.
    """
    backend = get_file_backend(filename, backend_args=backend_args or file_client_args)
    _save(dict(checkpoint), backend.join_path(filename))


def find_latest_checkpoint(path: str) -> str | None:
    """Returns the path of the checkpoint in a work_dir from which a run would resume, or None."""
    return find_latest(path)
