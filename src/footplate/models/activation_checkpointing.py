"""Activation checkpointing, which makes selected modules recompute their activations in the backward pass."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from footplate.checkpoint.serializable import tensors_in
from footplate.data.rng import random_states, set_random_states
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError
from footplate.module_selection import Selection, select_modules

KEY = "activation_checkpointing"


def checkpoint_activations(model: nn.Module, selection: Selection) -> None:
    """Makes selected modules store only their inputs and recompute everything else in the backward pass.

    Results do not change. The recomputation uses the same random numbers and buffers as the first forward pass, and
    does not update buffers such as running statistics. If gradients are disabled, nothing is recomputed. The backward
    pass raises an `ArgumentError` if an input of a selected module was modified in place.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.

    Args:
        model: The model. The class of each selected module is replaced with a subclass of the same name. Weight names
            do not change. Modules that are already checkpointed are left unchanged.
        selection: Which modules to checkpoint; see `select_modules`.

    Raises:
        ArgumentError: The selection is invalid or matches nothing, or a module's `forward` cannot be replaced.
    """
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    with at_key(KEY), located(selection):
        for name, module in select_modules(modules, selection).items():
            if hasattr(module, "checkpointed_name"):
                continue
            if isinstance(module, torch.jit.ScriptModule) or "forward" in vars(module):
                raise ArgumentError(
                    f"'{name}' does not support activation checkpointing, because its forward method was "
                    "replaced or compiled",
                    found=name,
                    notes=["Select its submodules, or the module that contains it."],
                )
            module.__class__ = _checkpointed(type(module))  # type: ignore[arg-type]
            module.checkpointed_name = name  # type: ignore[assignment]


@cache
def _checkpointed(module_class: type[nn.Module]) -> type[nn.Module]:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = partial(module_class.forward, self)
        if not torch.is_grad_enabled():
            return run(*args, **kwargs)

        settings: dict[str, Any] = {"use_reentrant": False}
        if not torch.compiler.is_compiling():  # the compiler itself discards changes to buffers
            # One context manager for each of the two computations. PyTorch restores the generators of accelerators.
            settings["context_fn"] = lambda: (nullcontext(), _Repeating(self, (args, kwargs)))
        # Pass keyword arguments as a dict: torch looks for tensors in it to determine their devices.
        return checkpoint(lambda positional, named: run(*positional, **named), args, kwargs, **settings)

    # Keep the class name, because selections and initializers match by name.
    fields = {"forward": forward, "__module__": module_class.__module__, "__doc__": module_class.__doc__}
    return type(module_class.__name__, (module_class,), fields)


class _Repeating(AbstractContextManager[None]):
    """Restores a module's buffers and the CPU random states while its activations are recomputed.

    The constructor records the state, and entering the context restores it. Leaving the context undoes this.
    """

    def __init__(self, module: nn.Module, inputs: Any) -> None:
        tensors = [tensor for tensor in tensors_in(inputs) if not tensor.is_inference()]
        self._module = module
        self._inputs = [(tensor, tensor._version) for tensor in tensors]
        self._buffers = [
            (part, name, buffer.clone())
            for part in module.modules()
            for name, buffer in part.named_buffers(recurse=False)
        ]
        self._states = random_states()

    def __enter__(self) -> None:
        if any(tensor._version != version for tensor, version in self._inputs):
            called = self._module.checkpointed_name
            raise ArgumentError(
                f"the input of '{called}' was modified in place during or after the forward pass, so the module's "
                "activations cannot be recomputed",
                key=KEY,
                found=called,
                notes=[
                    "Set inplace=False in the layer that modifies the input, or select a module that contains both "
                    f"'{called}' and that layer."
                ],
            )
        self._present = [(part, name, getattr(part, name)) for part, name, _ in self._buffers]
        self._present_states = random_states()
        for part, name, buffer in self._buffers:
            setattr(part, name, buffer.clone())
        set_random_states(self._states)

    def __exit__(self, *error: object) -> None:
        for part, name, buffer in self._present:
            setattr(part, name, buffer)
        set_random_states(self._present_states)
