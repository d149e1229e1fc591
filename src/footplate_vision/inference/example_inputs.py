"""Handles example inputs for a module: names them, and changes their sizes."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from footplate.config.config_dict import replace_values
from footplate.errors import ArgumentError
from footplate.messages import pluralize
from footplate.tools.memory_use import tensors_in

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Inputs(NamedTuple):
    """The inputs of a module.

    Attributes:
        args: The positional arguments.
        kwargs: The keyword arguments, in the order of the signature.
        names: The names of the positional arguments.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors in the inputs, named after the arguments."""
        arguments = {**dict(zip(self.names, self.args, strict=True)), **self.kwargs}
        return {key: tensor for name, value in arguments.items() for key, tensor in named_tensors(name, value).items()}

    @property
    def batch_size(self) -> int | None:
        """The size of the tensors' first dimension, or None if the sizes differ or a tensor has no dimensions."""
        sizes = {tensor.shape[0] if tensor.dim() else None for tensor in self.tensors().values()}
        return sizes.pop() if len(sizes) == 1 else None

    def resized(self, batch_size: int) -> "Inputs":
        """Returns inputs with a different batch size, created by repeating or dropping samples."""
        return self._map(lambda tensor: tensor[torch.arange(batch_size) % len(tensor)])

    def with_larger_images(self) -> "Inputs | None":
        """Returns inputs with a larger height and width, or None unless the only tensor is a batch of images."""
        tensors = list(self.tensors().values())
        if len(tensors) > 1 or tensors[0].dim() != 4 or not tensors[0].is_floating_point():
            return None
        size = [length + 32 * more for more, length in enumerate(tensors[0].shape[-2:], 1)]
        return self._map(lambda tensor: functional.interpolate(tensor, size))

    def on_cpu(self) -> "Inputs":
        """Returns the inputs on the CPU, without gradients."""
        return self._map(lambda tensor: tensor.detach().cpu())

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Inputs":
        args = replace_values(self.args, Tensor, function)
        kwargs = replace_values(self.kwargs, Tensor, function)
        return Inputs(args, kwargs, self.names)


def inputs_of(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
    """Returns the inputs of the call `module(*args, **kwargs)`, detached and moved to the CPU.

    Raises:
        ArgumentError: The module does not accept the arguments, or they contain no tensor.
    """
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as mismatch:
        raise ArgumentError(
            f"the forward method of '{type(module).__name__}' does not accept the example input: {mismatch}",
            key="example",
            found=list(kwargs) or pluralize(len(args), "positional argument"),
            notes=["In Python, pass a tensor, a tuple of positional arguments or a dict of keyword arguments."],
        ) from mismatch
    names = [name for name, parameter in signature.parameters.items() if parameter.kind in _POSITIONAL][: len(args)]
    names += [f"input_{index}" for index in range(len(names), len(args))]
    ordered = {name: kwargs[name] for name in (*signature.parameters, *kwargs) if name in kwargs}
    inputs = Inputs(args, ordered, tuple(names)).on_cpu()
    if not inputs.tensors():
        raise ArgumentError("the example must contain a tensor", key="example", found=args or dict(kwargs))
    return inputs


def named_tensors(name: str, value: Any) -> dict[str, Tensor]:
    """Returns the tensors in a nested value. Each key is `name` followed by the path in the value, e.g. "boxes_0".

    `name` is omitted for mappings if it is "output". Skips values that are not tensors.
    """
    paths = {re.sub(r"[.\[]", "_", path.replace("]", "")): tensor for path, tensor in tensors_in(value)}
    is_flat = name == "output" and isinstance(value, Mapping)
    return {path[1:] if is_flat else name + path: tensor for path, tensor in paths.items()}
