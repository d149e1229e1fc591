"""Finds the losses in the output of a plain module, a loss function or a `training_step`."""

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from footplate.errors import ArgumentError
from footplate.models.base_model import is_list_of_losses
from footplate.weighted import Sum, Weighted, refuse_pair


def losses_in(output: Any, source: str, advise: Callable[[], str] | None = None) -> dict[str, Any]:
    """Returns the losses in `output` and the numbers to log with them, keyed by name; see `PlainModel`.

    Args:
        output: The output.
        source: What returned the output, for the error message.
        advise: Returns advice for the error message.

    Raises:
        ArgumentError: The output contains no loss, or a pair of numbers.
    """
    if isinstance(output, Weighted) and isinstance(output.value, Tensor) and output.value.numel() == 1:
        return {"loss": output}
    loss = output if isinstance(output, Tensor) else getattr(output, "loss", None)
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return {"loss": loss}
    losses = _named_losses(output, source) if isinstance(output, Mapping) and loss is None else {}
    if losses:
        return losses
    refuse_pair(output, source)
    description = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output)
    notes = [] if advise is None else [advise()]
    if output is None and source == "training_step":
        notes = [
            "Check for a missing `return`. To skip a batch, return Weighted(loss, 0), and Weighted(loss, 1) for others."
        ]
    if getattr(output, "loss", 0) is None:  # the model needs labels to compute a loss
        notes = ["Add the labels to the batch under the name that forward uses, such as `labels`."]
    raise ArgumentError(
        f"{source} must return a loss: a tensor with one element (without `.item()`), Weighted(tensor, count), a "
        "dict of these with `loss` in their names, or an object with .loss",
        found=list(output) if isinstance(output, Mapping) else description,
        notes=notes,
    )


def _named_losses(output: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Returns the losses in `output` and the numbers to log with them, or an empty dict if there is no loss."""
    losses, logged = {}, {}
    for name, value in output.items():
        is_loss = "loss" in str(name)
        # A number without a gradient next to a loss may be its weight, or an accuracy.
        if is_loss and is_list_of_losses(value) and len({part.requires_grad for part in value}) == 1:
            value = sum(part.mean() for part in value)
        refuse_pair(value, f"entry '{name}' in the dict from {source}")
        plain = value.value if isinstance(value, Weighted | Sum) else value
        if is_loss and isinstance(value, Tensor | Weighted):
            losses[name] = value
        elif isinstance(plain, numbers.Real) or (isinstance(plain, Tensor) and plain.numel() == 1):
            number = torch.as_tensor(plain, dtype=None if isinstance(plain, Tensor) else torch.float64)
            logged[name] = value._replace(value=number) if isinstance(value, Weighted | Sum) else number
    if "loss" not in losses:  # all entries with "loss" in their name are summed, but plain numbers must not be
        logged = {name: value for name, value in logged.items() if "loss" not in str(name)}
    return {**losses, **logged} if losses else {}


def to_log(value: Any) -> Any:
    """Returns a logged value as a detached scalar tensor, possibly `Weighted` or a `Sum`."""
    if isinstance(value, Weighted | Sum):
        return value._replace(value=to_log(value.value))
    return value.detach().float().mean()
