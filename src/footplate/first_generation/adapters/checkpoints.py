"""Checkpoint functions of mmcv that first-generation code imports."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from footplate.checkpoint import load_checkpoint as _load_checkpoint
from footplate.checkpoint import load_weights
from footplate.checkpoint import save_checkpoint as _save_checkpoint
from footplate.distributed import unwrap_model


def load_checkpoint(
    model: nn.Module,
    filename: str,
    map_location: str = "cpu",
    strict: bool = False,
    logger: Any = None,
    revise_keys: Sequence[tuple[str, str]] = (("^module.", ""),),
) -> dict[str, Any]:
    """Loads the weights of a checkpoint into a model, and returns the checkpoint.

    Args:
        model: The model, wrapped or not.
        filename: The checkpoint file.
        map_location: The device for the tensors.
        strict: Whether all keys must match.
        logger: Ignored; mismatches are logged to footplate's logger.
        revise_keys: Pairs of a regular expression and its replacement, applied to the keys.
    """
    checkpoint = _load_checkpoint(filename, map_location)
    load_weights(unwrap_model(model), checkpoint, strict=strict, revise_keys=revise_keys, name=filename)
    return checkpoint


def load_state_dict(module: nn.Module, state_dict: Mapping[str, Any], strict: bool = False, logger: Any = None) -> None:
    """Loads a state dict into a module and logs mismatches."""
    load_weights(unwrap_model(module), dict(state_dict), strict=strict)


def save_checkpoint(
    model: nn.Module, filename: str, optimizer: Any = None, meta: Mapping[str, Any] | None = None
) -> None:
    """Saves the weights of a model, and the state of one optimizer or of several by name."""
    checkpoint: dict[str, Any] = {"meta": dict(meta or {}), "state_dict": unwrap_model(model).state_dict()}
    if isinstance(optimizer, Mapping):
        checkpoint["optimizer"] = {name: each.state_dict() for name, each in optimizer.items()}
    elif optimizer is not None:
        checkpoint["optimizer"] = optimizer.state_dict()
    _save_checkpoint(checkpoint, filename)
