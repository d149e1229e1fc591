"""Several optimizers of one model."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from torch import Tensor, nn

from footplate.errors import ArgumentError, CheckpointError
from footplate.optim.wrappers.optim_wrapper import OptimWrapper


class OptimWrapperDict(OptimWrapper):
    """Several wrappers by name, for models that step several optimizers, as a generator and a discriminator.

    The model's `train_step` picks a wrapper by name and steps it.

    Args:
        wrappers: The wrappers.

    Raises:
        ArgumentError: A value is no wrapper, or two of them step the same optimizer.
    """

    def __init__(self, **wrappers: OptimWrapper) -> None:
        owners: dict[int, str] = {}
        for name, wrapper in wrappers.items():
            if not isinstance(wrapper, OptimWrapper):
                raise ArgumentError("several optimizers are given as wrappers", key=name, found=wrapper)
            other = owners.setdefault(id(getattr(wrapper, "optimizer", wrapper)), name)
            if other != name:
                raise ArgumentError(f"the optimizer of '{name}' is that of '{other}'", key=name)
        self.optim_wrappers = wrappers

    @property
    def parts(self) -> Mapping[str, OptimWrapper]:
        """The wrappers of single optimizers by name."""
        return self.optim_wrappers

    def __getitem__(self, name: str) -> OptimWrapper:
        return self.optim_wrappers[name]

    def __contains__(self, name: object) -> bool:
        return name in self.optim_wrappers

    def __len__(self) -> int:
        return len(self.optim_wrappers)

    def __iter__(self) -> Iterator[str]:
        return iter(self.optim_wrappers)

    def keys(self) -> Iterator[str]:
        """Returns the names."""
        return iter(self.optim_wrappers)

    def values(self) -> Iterator[OptimWrapper]:
        """Returns the wrappers."""
        return iter(self.optim_wrappers.values())

    def items(self) -> Iterator[tuple[str, OptimWrapper]]:
        """Returns names and wrappers."""
        return iter(self.optim_wrappers.items())

    def update_params(self, loss: Tensor, step_kwargs: Any = None, zero_kwargs: Any = None) -> None:
        """Refuses: which optimizer is meant, only the model knows.

        Raises:
            ArgumentError: Always.
        """
        names = ", ".join(f'"{name}"' for name in self.optim_wrappers)
        raise ArgumentError(f"the model has several optimizers: update_params of one of {names}")

    def optim_context(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Returns the contexts of all wrappers in one."""
        stack = ExitStack()
        for wrapper in self.values():
            stack.enter_context(wrapper.optim_context(model))
        return stack

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Tells each wrapper where in the run it stands."""
        for wrapper in self.values():
            wrapper.initialize_count_status(model, init_counts, max_counts)

    def name_parameters(self, model: nn.Module) -> None:
        """Tells each wrapper what the parameters are called."""
        for wrapper in self.values():
            wrapper.name_parameters(model)

    def guard(self, policy: str | None) -> None:
        """Sets for each wrapper what happens to a step whose gradients are not finite."""
        for wrapper in self.values():
            wrapper.guard(policy)

    def get_lr(self) -> dict[str, list[float]]:
        """Returns `{"<name>.lr": [...]}` for each wrapper."""
        return {f"{name}.lr": wrapper.get_lr()["lr"] for name, wrapper in self.items()}

    def get_momentum(self) -> dict[str, list[float]]:
        """Returns `{"<name>.momentum": [...]}` for each wrapper."""
        return {f"{name}.momentum": wrapper.get_momentum()["momentum"] for name, wrapper in self.items()}

    @property
    def param_groups(self) -> Any:
        """The groups of each wrapper by its name."""
        return {name: wrapper.param_groups for name, wrapper in self.items()}

    def state_dict(self, *, per_parameter: bool = False) -> dict[str, Any]:
        """Returns the state of each wrapper by its name."""
        return {name: wrapper.state_dict(per_parameter=per_parameter) for name, wrapper in self.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave.

        Raises:
            CheckpointError: A name is not that of a wrapper.
        """
        for name, state in state_dict.items():
            if name not in self.optim_wrappers:
                raise CheckpointError(f"the saved state of optimizer '{name}' belongs to no optimizer of this run")
            self.optim_wrappers[name].load_state_dict(state)
