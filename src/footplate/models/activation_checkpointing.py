"""Activation checkpointing: selected modules recompute their activations in the backward pass."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from footplate.checkpoint.serializable import tensors_in
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError
from footplate.module_selection import BATCH_NORMS, INSTANCE_NORMS, Selection, select_modules

_Buffers = dict[str, Tensor | None]  # the `_buffers` of a module

KEY = "activation_checkpointing"


def checkpoint_activations(model: nn.Module, selection: Selection) -> None:
    """Makes the selected modules store only their inputs and recompute everything else in the backward pass.

    The results do not change: the second computation uses the same random numbers and the same buffers as the first,
    and its changes to buffers, such as running statistics, are discarded. If gradients are disabled, nothing is
    recomputed. The backward pass raises an `ArgumentError` if an input of a selected module was changed in place.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.

    Args:
        model: The model. The class of each selected module is replaced with a subclass of the same name. Names of
            weights do not change. Modules that are already checkpointed are left unchanged.
        selection: The modules; see `select_modules`.

    Raises:
        ArgumentError: The selection matches nothing, or the `forward` of a module cannot be replaced.
    """
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    with at_key(KEY), located(selection):
        for name, module in select_modules(modules, selection).items():
            if hasattr(module, "checkpointed_name"):
                continue
            if isinstance(module, torch.jit.ScriptModule) or "forward" in vars(module):
                raise ArgumentError(
                    f"'{name}' cannot be checkpointed, because its forward method was replaced or compiled",
                    found=name,
                    notes=["Select its submodules, or the module that contains it."],
                )
            module.__class__ = _checkpointed(type(module))  # type: ignore[arg-type]
            module.checkpointed_name = name  # type: ignore[assignment]


@cache
def _checkpointed(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = partial(kind.forward, self)
        if not torch.is_grad_enabled():
            return run(*args, **kwargs)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            """Returns the contexts of the two computations. PyTorch restores its own random generators."""
            changed: list[tuple[_Buffers, _Buffers]] = []
            return _finding_changed_buffers(self, changed), _Repeating(self, (args, kwargs), changed)

        settings: dict[str, Any] = {"use_reentrant": False}
        if not torch.compiler.is_compiling():  # the compiler discards changes of buffers itself
            settings["context_fn"] = contexts
        # Keyword arguments are passed in a dict, in which torch searches for the devices of their tensors.
        return checkpoint(lambda positional, named: run(*positional, **named), args, kwargs, **settings)

    # Selections and initializers compare the name of the class.
    fields = {"forward": forward, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), fields)


@contextmanager
def _finding_changed_buffers(module: nn.Module, changed: list[tuple[_Buffers, _Buffers]]) -> Iterator[None]:
    """For each submodule whose buffers the block changes, appends its `_buffers` and a dict of their earlier values."""
    before = [
        (part, [(name, value, _version(value), _copy(value)) for name, value in part._buffers.items()])
        for part in module.modules()
    ]
    yield
    for part, buffers in before:
        # torch does not count the versions of running statistics.
        is_statistic = isinstance(part, (*BATCH_NORMS, *INSTANCE_NORMS)) and part.training
        earlier = {
            name: copy if is_statistic or _version(value) != version else value
            for name, value, version, copy in buffers
        }
        is_same = part._buffers.keys() == earlier.keys()
        if not is_same or any(part._buffers[name] is not value for name, value in earlier.items()):
            changed.append((part._buffers, earlier))


def _version(value: Tensor | None) -> int | None:
    return None if value is None else value._version


def _copy(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.clone()


def _replace(buffers: _Buffers, values: _Buffers) -> None:
    buffers.clear()
    buffers.update(values)


class _Repeating(AbstractContextManager[None]):
    """Runs the block with earlier buffers and Python and NumPy random states, and then restores the current ones.

    Each backward pass enters this context.
    """

    def __init__(self, module: nn.Module, inputs: Any, changed: list[tuple[_Buffers, _Buffers]]) -> None:
        tensors = [tensor for tensor in tensors_in(inputs) if not tensor.is_inference()]
        self._module = module
        self._inputs = [(tensor, tensor._version) for tensor in tensors]
        self._changed = changed
        self._states = random.getstate(), np.random.get_state()

    def __enter__(self) -> None:
        if any(tensor._version != version for tensor, version in self._inputs):
            called = self._module.checkpointed_name
            raise ArgumentError(
                f"the input of '{called}' was changed in place after its forward method was called, so its activations "
                "cannot be recomputed",
                key=KEY,
                found=called,
                notes=["Set inplace=False, or select the module that contains it."],
            )
        self._present = [(part._buffers, dict(part._buffers)) for part in self._module.modules()]
        self._present_states = random.getstate(), np.random.get_state()
        # torch does not count all changes of buffers, so the others are copied, too.
        for buffers, values in [*self._present, *self._changed]:
            _replace(buffers, {name: _copy(value) for name, value in values.items()})
        self._set_states(self._states)

    def __exit__(self, *error: object) -> None:
        for buffers, values in self._present:
            _replace(buffers, values)
        self._set_states(self._present_states)

    def _set_states(self, states: tuple[Any, Any]) -> None:
        random.setstate(states[0])
        np.random.set_state(states[1])
