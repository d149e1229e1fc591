"""From what a model calls its losses to the one that is minimised."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from footplate.errors import ArgumentError


def parse_losses(
    losses: Mapping[str, Tensor | Sequence[Tensor]],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sums the losses and prepares all values for the log.

    Args:
        losses: Tensors of any shape, which are averaged, or lists of them, whose averages are summed.
            Entries whose name holds "loss" are minimised; the others are only logged.

    Returns:
        The sum to minimise, ``()``, and the values to log by name, ``()`` each, detached, on their device:
        "loss" is the sum.

    Raises:
        ArgumentError: An entry is no tensor, a name is no word, or none holds "loss".
    """
    if not isinstance(losses, (dict, Mapping)):  # a dict is told apart at once, which a train step asks each time
        raise ArgumentError(
            "a model in mode 'loss' returns a dict of losses",
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
            "none of the model's losses has 'loss' in its name, so there is nothing to minimise",
            found=list(losses),
        )
    return total, {"loss": total.detach(), **others}


def _sum(values: Sequence[Tensor]) -> Tensor:
    total = values[0]  # not sum(), which launches one more kernel to add zero
    for value in values[1:]:
        total = total + value
    return total


def _scalar(name: object, value: Tensor | Sequence[Tensor]) -> Tensor:
    if not isinstance(name, str):
        raise ArgumentError("the name of a loss is a word", found=name)
    if isinstance(value, Tensor):
        return value if value.dim() == 0 else value.mean()
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, Tensor) for each in value):
        return _sum([each.mean() for each in value])
    raise ArgumentError(f"the loss '{name}' is neither a tensor nor a list of tensors", found=value)
