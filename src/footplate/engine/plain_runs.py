"""Completes the settings of a run that is set up in Python: its length, and defaults for plain torch modules."""

import copy
from collections.abc import Mapping
from typing import Any

from footplate.engine.components import counts_epochs
from footplate.error_context import with_origins
from footplate.errors import ArgumentError
from footplate.models import FUNCTIONS, is_plain

LENGTHS = ("max_epochs", "max_iters")
PYTHON_ARGUMENTS = (*LENGTHS, *FUNCTIONS)
"""The arguments of the Runner that are not keys of a config."""


def complete_sections(given: Mapping[str, Any]) -> dict[str, Any]:
    """Completes the arguments of a Runner with those that can be derived from the others.

    `max_epochs` or `max_iters` replaces the value in `train_cfg`. For a plain module, validation and test need only a
    dataloader: without metrics, they report the loss.

    Args:
        given: Maps the names of the runner's arguments to their values.

    Raises:
        ArgumentError: Arguments conflict with each other.
    """
    sections = {**given, "train_cfg": _with_length(given)}
    if not is_plain(given["model"]) and all(given[name] is None for name in FUNCTIONS):
        return sections
    computes_loss = given["loss"] is not None or given["training_step"] is not None
    if given["val_dataloader"] is None and given["test_dataloader"] is not None and given["test_evaluator"] is None:
        sections |= {"val_evaluator": None, "test_evaluator": given["val_evaluator"]}
    for mode in ("val", "test"):
        if given[f"{mode}_dataloader"] is None:
            continue
        if sections[f"{mode}_evaluator"] is None:
            sections[f"{mode}_evaluator"] = copy.deepcopy(given["val_evaluator"]) or []
        if given[f"{mode}_cfg"] is None:
            reports_loss = computes_loss or not sections[f"{mode}_evaluator"]
            sections[f"{mode}_cfg"] = {"loss": True} if reports_loss else {}
    if not counts_epochs(sections["train_cfg"]):
        hooks = given["default_hooks"] or {}
        checkpoint = hooks.get("checkpoint", {})
        if isinstance(checkpoint, Mapping) and "type" not in checkpoint:
            settings = with_origins({"by_epoch": False, **checkpoint}, checkpoint)
            sections["default_hooks"] = with_origins({**hooks, "checkpoint": settings}, hooks)
    return sections


def _with_length(given: Mapping[str, Any]) -> Any:
    """Returns `train_cfg` with `max_epochs` or `max_iters`, if one of them is given."""
    train_cfg = given["train_cfg"]
    lengths = {name: given[name] for name in LENGTHS if given[name] is not None}
    if not lengths:
        return train_cfg
    if len(lengths) > 1:
        raise ArgumentError("'max_epochs' and 'max_iters' cannot both be set", key="max_iters")
    ((name, length),) = lengths.items()
    if not isinstance(train_cfg, (Mapping, type(None))):
        raise ArgumentError(f"'{name}' has no effect if 'train_cfg' is a loop", key=name, found=length)
    other = "max_iters" if name == "max_epochs" else "max_epochs"
    if other in (train_cfg or {}):
        raise ArgumentError(f"'{name}' cannot be combined with '{other}' in 'train_cfg'", key=name, found=length)
    return with_origins({**(train_cfg or {}), **lengths}, train_cfg)
