"""The optimizer wrapper for models with several optimizers."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NoReturn

from torch import nn

from footplate.errors import ArgumentError, CheckpointError, UnknownNameError
from footplate.messages import nearest
from footplate.optim.wrappers.optim_wrapper import OptimWrapper


class OptimWrapperDict(OptimWrapper):
    """A mapping from names to optimizer wrappers, for models with several optimizers (GANs, for example).

    The model's `train_step` selects a wrapper by name and calls its `update_params`.

    This class does not have its own optimizer. It is a subclass of OptimWrapper only because code written for MMEngine
    checks for OptimWrapper. Methods that make sense for all optimizers call every wrapper; all others raise an error.

    Raises:
        ArgumentError: A value is not an optimizer wrapper.
    """

    def __init__(self, **wrappers: OptimWrapper) -> None:  # OptimWrapper's constructor requires an optimizer
        for name, wrapper in wrappers.items():
            if not isinstance(wrapper, OptimWrapper):
                raise ArgumentError("OptimWrapperDict accepts only optimizer wrappers", key=name, found=wrapper)
        self.optim_wrappers = wrappers

    @property
    def parts(self) -> Mapping[str, OptimWrapper]:
        """The wrappers, keyed by name."""
        return self.optim_wrappers

    def __getitem__(self, name: str) -> OptimWrapper:
        if name not in self.optim_wrappers:
            names = ", ".join(self.optim_wrappers)
            near = nearest(name, self.optim_wrappers)
            raise UnknownNameError(f"there is no optimizer '{name}'", suggestion=near, notes=[f"optimizers: {names}"])
        return self.optim_wrappers[name]

    def __contains__(self, name: object) -> bool:
        return name in self.optim_wrappers

    def __len__(self) -> int:
        return len(self.optim_wrappers)

    def __iter__(self) -> Iterator[str]:
        return iter(self.optim_wrappers)

    keys = __iter__

    def values(self) -> Iterator[OptimWrapper]:
        """Returns an iterator over the wrappers."""
        return iter(self.optim_wrappers.values())

    def items(self) -> Iterator[tuple[str, OptimWrapper]]:
        """Returns an iterator over (name, wrapper) pairs."""
        return iter(self.optim_wrappers.items())

    def update_params(self, *_: Any, **__: Any) -> NoReturn:
        """Raises an error, because it is unclear which optimizer to step.

        Raises:
            ArgumentError: Always.
        """
        name = next(iter(self.optim_wrappers))
        raise ArgumentError(
            "with several optimizers, the model's training step must update each of them itself",
            key="optim_wrapper",
            notes=[
                f'Call optimizers["{name}"].update_params(loss) in training_step(model, batch, optimizers), or '
                f'optim_wrapper["{name}"].update_params(loss) in your train_step. Do the same for the others.'
            ],
        )

    backward = step = scale_loss = should_update = should_sync = update_params

    def zero_grad(self, **kwargs: Any) -> None:
        """Resets the gradients of all wrappers."""
        for wrapper in self.values():
            wrapper.zero_grad(**kwargs)

    def optim_context(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Returns a context manager that enters the contexts of all wrappers."""
        stack = ExitStack()
        for wrapper in self.values():
            stack.enter_context(wrapper.optim_context(model))
        return stack

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Passes the loss counts for gradient accumulation to all wrappers."""
        for wrapper in self.values():
            wrapper.initialize_count_status(model, init_counts, max_counts)

    def get_lr(self) -> dict[str, list[float]]:
        """Returns a dict with an entry `"<name>.lr": [...]` for each wrapper."""
        return {f"{name}.lr": wrapper.get_lr()["lr"] for name, wrapper in self.items()}

    def get_momentum(self) -> dict[str, list[float]]:
        """Returns a dict with an entry `"<name>.momentum": [...]` for each wrapper."""
        return {f"{name}.momentum": wrapper.get_momentum()["momentum"] for name, wrapper in self.items()}

    @property
    def param_groups(self) -> Any:
        """The parameter groups of each wrapper, keyed by the wrapper's name."""
        return {name: wrapper.param_groups for name, wrapper in self.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns a dict that maps the name of each wrapper to its state."""
        return {name: wrapper.state_dict() for name, wrapper in self.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Loads the states of the wrappers.

        Raises:
            CheckpointError: The names in `state_dict` differ from the names of the wrappers.
        """
        if set(state_dict) != set(self.optim_wrappers):
            raise CheckpointError(
                f"the checkpoint does not contain the run's optimizers ({', '.join(self.optim_wrappers)})",
                found="a single optimizer" if "param_groups" in state_dict else list(state_dict),
            )
        for name, state in state_dict.items():
            self.optim_wrappers[name].load_state_dict(state)
