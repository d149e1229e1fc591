"""The arguments of a `training_step`, a function that computes the loss of a plain module."""

import inspect
from typing import Any

from torch import nn

from footplate.errors import ArgumentError
from footplate.records import MessageHub
from footplate.weighted import LoggedValues, Weighted, detached

OPTIMIZERS = ("optimizer", "optimizers")


class TrainStep:
    """The `step` argument of a `training_step`, which provides the current iteration and epoch, and logs values.

    Example:
        >>> def training_step(model, batch, step):
        ...     loss = model(batch).square().mean()
        ...     step.log("noise", 0.9**step.epoch)
        ...     return loss
    """

    def __init__(self, message_hub: MessageHub) -> None:
        self.values = LoggedValues()
        self._info: dict[str, int] = message_hub.runtime_info

    @property
    def epoch(self) -> int:
        """The number of completed epochs or, in iteration-based training, passes over the data.

        For a stream with neither a length nor its own state, the number stays 0.
        """
        return self._info["epoch"]

    @property
    def iter(self) -> int:
        """The number of completed iterations."""
        return self._info["iter"]

    @property
    def max_epochs(self) -> int:
        """The number of epochs in the run, or 1 in iteration-based training."""
        return self._info["max_epochs"]

    @property
    def max_iters(self) -> int:
        """The number of iterations in the run."""
        return self._info["max_iters"]

    def log(self, name: str, value: Any, weight: Any = None) -> None:
        """Logs a value, as if `training_step` had returned it in a dict.

        Args:
            name: The name of the value.
            value: A number or a tensor with one element, or a `Weighted` or `Sum` value.
            weight: The number of items that `value` is a mean over, by which it is weighted in means; see `Weighted`.
        """
        self.values.set(name, detached(value if weight is None else Weighted(value, weight)))


def further_arguments(training_step: Any) -> tuple[str, ...]:
    """Returns which of `optimizer`, `optimizers` and `step` a `training_step` takes after the module and the batch.

    Raises:
        ArgumentError: The function cannot be called with these arguments, or is a method that takes a batch as its
            first argument.
    """
    if training_step is None:
        return ()
    known = (*OPTIMIZERS, "step")
    signature = inspect.signature(training_step)
    owner = getattr(training_step, "__self__", None)
    if isinstance(owner, nn.Module) and next(iter(signature.parameters), "model") in ("batch", "train_batch", "data"):
        raise ArgumentError(
            "training_step takes the model as its first argument, but this method takes a batch",
            key="training_step",
            found=training_step.__qualname__,
            notes=[line_for_method(training_step)],
        )
    names = tuple(name for name in [*signature.parameters][2:] if name in known)
    try:
        signature.bind(None, None, **dict.fromkeys(names))
    except TypeError as error:
        notes = [
            "Write training_step(model, batch, optimizer, step). The last two arguments are optional.",
            "The iteration number is step.iter.",
        ]
        raise ArgumentError(f"training_step cannot be called: {error}", key="training_step", notes=notes) from error
    return names


def line_for_method(step: Any) -> str:
    """Returns the advice to pass `step`, a method of the model, as `training_step`.

    As in Lightning, the method takes a batch and possibly the batch index.
    """
    further = list(inspect.signature(step).parameters.values())[1:2]
    arguments = "batch, 0" if further and further[0].default is inspect.Parameter.empty else "batch"
    return f"Pass training_step=lambda model, batch: model.{step.__name__}({arguments})."
