"""Combines the losses of a model into one scalar to minimize."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from footplate.errors import ArgumentError


def parse_losses(
    losses: Mapping[str, Tensor | Sequence[Tensor]],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sums the losses and prepares all values for logging.

    Args:
        losses: Values by name. A tensor of any shape is averaged; a list of tensors is averaged one by one and
            summed. Entries with "loss" in their name are summed up and minimized; all others are only logged.

    Returns:
        The total loss, ``()``, and the values to log by name, ``()`` each, detached and on their device. The total
        is logged as "loss".

    Raises:
        ArgumentError: A value is not a tensor, a name is not a string, or no name contains "loss".
    """
    if not isinstance(losses, (dict, Mapping)):  # the check for dict is fast and almost always enough
        raise ArgumentError(
            "a model in mode 'loss' must return a dict of losses",
            found=losses if losses is None else type(losses),
        )
    total: Tensor | None = None
    others: dict[str, Tensor] = {}
    for name, value in losses.items():
        scalar = _scalar(name, value)
        if "loss" in name:
            total = scalar if total is None else total + scalar
        if name != "loss":
            others[name] = scalar.detach()
    if total is None:
        raise ArgumentError(
            "no loss of the model has 'loss' in its name, so there is nothing to minimize",
            found=list(losses),
        )
    return total, {"loss": total.detach(), **others}


def _scalar(name: object, value: Tensor | Sequence[Tensor]) -> Tensor:
    if not isinstance(name, str):
        raise ArgumentError("the name of a loss must be a string", found=name)
    if isinstance(value, Tensor):
        return value if value.dim() == 0 else value.mean()
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, Tensor) for each in value):
        total: Tensor = value[0].mean()
        for each in value[1:]:  # not sum(), which launches one more kernel to add zero
            total = total + each.mean()
        return total
    raise ArgumentError(f"the loss '{name}' must be a tensor or a list of tensors", found=value)
