"""Values with weights, whose means over batches, epochs and processes are exact."""

import math
import numbers
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import Self

from footplate.errors import ArgumentError


class _ValueAndWeight(NamedTuple):
    value: Any
    weight: Any


class Weighted(_ValueAndWeight):
    """A mean over some items of a batch, and the number (or total weight) of these items.

    footplate averages such values over batches and processes by weight. Return one instead of a loss or a metric, for
    example if a batch contains padding or missing labels.

    Attributes:
        value: The mean, a number or a scalar tensor. If the weight is 0, it does not count, and may be NaN.
        weight: The number of items, as a number or a scalar tensor without a gradient, at least 0.

    Raises:
        ArgumentError: The weight has a gradient or more than one element, or is negative, infinite or NaN. Values on an
            accelerator are not read here: `NonFiniteGuard` checks the weights of losses.

    Example:
        >>> import torch
        >>> labels = torch.tensor([3, -100, 1])
        >>> loss = torch.nn.functional.cross_entropy(torch.zeros(3, 5), labels)
        >>> Weighted(loss, (labels != -100).sum()).weight
        tensor(2)
    """

    def __new__(cls, value: Any, weight: Any) -> Self:
        is_tensor = type(weight) is Tensor and not torch.compiler.is_compiling()  # traced tensors have no values
        is_read = is_tensor and weight.is_cpu or isinstance(weight, numbers.Real)
        if (is_tensor and (weight.requires_grad or weight.numel() != 1)) or (is_read and not 0 <= weight < math.inf):
            raise ArgumentError(
                "the weight of a loss or metric must be a number of items: finite, at least 0, and without a gradient",
                found=weight,
                notes=["Weighted(value, weight) is a mean and its weight. To minimize two losses, return their sum."],
            )
        return super().__new__(cls, value, weight)


class Sum(NamedTuple):
    """A value that is summed over batches and processes instead of averaged, such as a number of correct predictions.

    Attributes:
        value: The sum over a batch, a number or a scalar tensor.
    """

    value: Any


class EmptyMean(float):
    """A NaN for the mean over no items. It is logged, but hooks and schedules ignore it."""


class LoggedValues(dict[str, Any]):
    """The values that a training step logs. Hooks read plain values; the weights are stored next to them.

    Args:
        values: Numbers or scalar tensors, some of them `Weighted` or a `Sum`.

    Attributes:
        marked: The `Weighted` and `Sum` values, keyed by name.
    """

    def __init__(self, values: "dict[str, Any] | None" = None) -> None:
        super().__init__(values or {})
        self.marked: dict[str, Weighted | Sum] = {}
        for name in [name for name, value in self.items() if isinstance(value, Weighted | Sum)]:
            self.set(name, self[name])

    def merge(self, other: "dict[str, Any]") -> None:
        """Adds the values of another object, which replace those with the same names."""
        marked = other.marked if isinstance(other, LoggedValues) else {}
        for name, value in other.items():
            self.set(name, marked.get(name, value))

    def set(self, name: str, value: Any) -> None:
        """Sets a value, which may be `Weighted` or a `Sum`."""
        self.marked.pop(name, None)
        if isinstance(value, Weighted | Sum):
            self.marked[name] = value
            value = value.value
        self[name] = value


def refuse_pair(value: Any, source: str) -> None:
    """Raises an ArgumentError if `value`, which `source` returned, is a tuple or list of numbers.

    A second number could be a weight, another loss or a value to log, and no type tells them apart.
    """
    is_list = isinstance(value, tuple) and bool(value) or (isinstance(value, list) and len(value) > 1)
    if is_list and not isinstance(value, Weighted | Sum) and all(map(is_scalar, value)):
        raise ArgumentError(
            f"several numbers from {source} are ambiguous",
            found=value,
            notes=[
                "If these are a mean and its number of items, return Weighted(value, count).",
                "Otherwise, return their sum, or a dict that names each of them.",
            ],
        )


def detached(value: Any) -> Any:
    """Returns a value without its graph."""
    if isinstance(value, Weighted | Sum):
        return value._replace(value=detached(value.value))
    return value.detach() if isinstance(value, Tensor) else value


def is_scalar(value: Any) -> bool:
    """Checks whether a value is a number or has a single element."""
    return isinstance(value, numbers.Real) or getattr(value, "shape", None) in ((), (1,))


def without_nan(value: Tensor, weight: Any) -> Tensor:
    """Returns the value, or 0 if its weight is 0: a mean over no items is NaN. Keeps the graph of the value."""
    return torch.where(torch.as_tensor(weight, device=value.device) > 0, value, 0.0)
