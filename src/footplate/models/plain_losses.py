"""Finds the losses in the output of a plain module, a loss function or a `training_step`."""

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from footplate.errors import ArgumentError
from footplate.weighted import Sum, Weighted, as_weighted

FUNCTIONS = ("training_step", "the loss function")


def losses_in(output: Any, source: str, advise: Callable[[], str] | None = None) -> dict[str, Any]:
    """Returns the losses in `output` and the numbers to log with them, keyed by name; see `PlainModel`.

    Args:
        output: The output.
        source: What returned the output, for the error message.
        advise: Returns advice for the error message.

    Raises:
        ArgumentError: The output contains no loss.
    """
    if source in FUNCTIONS:  # the output of a module may be a tuple of a loss and something else
        output = as_weighted(output)
    if isinstance(output, Weighted) and isinstance(output.value, Tensor) and output.value.numel() == 1:
        return {"loss": output}
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
            "Check for a missing `return`. To skip a batch, return (loss, 0), and return (loss, 1) for the others."
        ]
    if getattr(output, "loss", 0) is None:  # the model needs labels to compute a loss
        notes = ["Add the labels to the batch under the name that forward uses, such as `labels`."]
    raise ArgumentError(
        f"{source} must return a loss: a tensor with one element (without `.item()`), such a tensor and its weight, a "
        "dict of these with `loss` in their names, or an object with .loss",
        found=list(output) if isinstance(output, Mapping) else description,
        notes=notes,
    )


def _named_losses(output: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the losses in `output` and the numbers to log with them, or an empty dict if there is no loss."""
    totals = {name: _total(value) for name, value in output.items() if "loss" in str(name)}
    losses = {name: value for name, value in totals.items() if isinstance(value, Tensor | Weighted)}
    if not losses:
        return {}
    logged = {}
    for name, value in output.items():
        value = as_weighted(value)
        plain = value.value if isinstance(value, Weighted | Sum) else value
        is_scalar = isinstance(plain, numbers.Real) or (isinstance(plain, Tensor) and plain.numel() == 1)
        # Without an entry "loss", all entries with "loss" in their name are summed, but plain numbers must not be.
        if name not in losses and is_scalar and ("loss" in losses or "loss" not in str(name)):
            number = torch.as_tensor(plain, dtype=None if isinstance(plain, Tensor) else torch.float64)
            logged[name] = value._replace(value=number) if isinstance(value, Weighted | Sum) else number
    return {**losses, **logged}


def to_log(value: Any) -> Any:
    """Returns a logged value as a detached scalar tensor, possibly `Weighted` or a `Sum`."""
    if isinstance(value, Weighted | Sum):
        return value._replace(value=to_log(value.value))
    return value.detach().float().mean()


def _total(value: Any) -> Any:
    """Returns the sum of a list of losses. A tuple of a loss and its weight becomes `Weighted`."""
    if isinstance(value, Weighted):
        return value
    weighted = as_weighted(value)
    is_pair = isinstance(weighted, Weighted) and isinstance(weighted.value, Tensor)
    if is_pair and not (isinstance(weighted.weight, Tensor) and weighted.weight.is_floating_point()):
        return weighted
    if is_pair and weighted.value.requires_grad and not weighted.weight.requires_grad:
        raise ArgumentError(
            "a tuple of losses is minimized as their sum, but the second one has no gradient",
            found=value,
            notes=["If it is the weight of the first, write Weighted(loss, weight)."],
        )
    if isinstance(value, (list, tuple)) and all(
        isinstance(each, Tensor) and each.is_floating_point() for each in value
    ):
        return sum(part.mean() for part in value)
    return value
