"""Finds the losses in the output of a plain module, a loss function or a `training_step`."""

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from footplate.errors import ArgumentError


def losses_in(output: Any, source: str, advise: Callable[[], str] | None = None) -> dict[str, Any]:
    """Returns the losses in `output` and the numbers to log with them, keyed by name; see `PlainModel`.

    Args:
        output: The output.
        source: What returned the output, for the error message.
        advise: Returns advice for the error message.

    Raises:
        ArgumentError: The output contains no loss.
    """
    loss = output if isinstance(output, Tensor) else getattr(output, "loss", None)
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return {"loss": loss}
    losses = _named_losses(output) if isinstance(output, Mapping) and loss is None else {}
    if losses:
        return losses
    description = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output)
    notes = [] if advise is None else [advise()]
    if output is None and source == "training_step":
        notes = [
            "Check for a missing `return`. To skip batches, add the parameter `optimizer` to training_step, and call "
            "optimizer.update_params(loss) only for the batches to train on."
        ]
    if getattr(output, "loss", 0) is None:  # the model needs labels to compute a loss
        notes = ["Add the labels to the batch under the name that forward uses, such as `labels`."]
    raise ArgumentError(
        f"{source} must return a loss: a tensor with one element (without `.item()`), a dict of tensors with `loss` in "
        "their names, or an object with .loss",
        found=list(output) if isinstance(output, Mapping) else description,
        notes=notes,
    )


def _named_losses(output: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns the losses in `output` and the numbers to log with them, or an empty dict if there is no loss."""
    totals = {name: _total(value) for name, value in output.items() if "loss" in str(name)}
    losses = {name: value for name, value in totals.items() if isinstance(value, Tensor)}
    if not losses:
        return {}
    logged = {}
    for name, value in output.items():
        is_scalar = isinstance(value, numbers.Real) or (isinstance(value, Tensor) and value.numel() == 1)
        # Without an entry "loss", all entries with "loss" in their name are summed, but plain numbers must not be.
        if name not in losses and is_scalar and ("loss" in losses or "loss" not in str(name)):
            logged[name] = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float64)
    return {**losses, **logged}


def _total(value: Any) -> Any:
    """Returns the sum of a list of losses, and any other value unchanged."""
    if isinstance(value, (list, tuple)) and all(
        isinstance(each, Tensor) and each.is_floating_point() for each in value
    ):
        return sum(part.mean() for part in value)
    return value
