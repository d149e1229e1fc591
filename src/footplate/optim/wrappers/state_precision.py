"""Stores the state of an optimizer in bfloat16 between its steps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, Optimizer, RAdam, RMSprop

from footplate.checks import check_choice
from footplate.distributed import tensor_parallel_size
from footplate.distributed.sharding import is_split_layer, local_tensor
from footplate.errors import ArgumentError
from footplate.optim.layerwise import LAMB, LARS
from footplate.optim.muon import Muon
from footplate.optim.wrappers.optimizer_state import State, map_tensors

_SUPPORTED = (SGD, Adam, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, LAMB, LARS, Muon)
_DROPPED_BITS = 16  # bfloat16 consists of the upper 16 bits of a float32


class BFloat16State:
    """Converts the state of an optimizer to the precision of the parameters for each step, and back to bfloat16.

    Stochastic rounding keeps the mean: with rounding to the nearest value, a running mean could not change by less than
    a 256th of its value per step. The random numbers depend only on `steps`, so all ranks draw the same ones.

    Args:
        optimizer: The optimizer.
        dtype: "bfloat16".

    Attributes:
        steps: The number of conversions so far.

    Raises:
        ArgumentError: The dtype or the optimizer is not supported, or parameters are on several devices.
    """

    def __init__(self, optimizer: Optimizer, dtype: str | torch.dtype) -> None:
        if dtype is not torch.bfloat16:
            check_choice("state_dtype", dtype, ("bfloat16",))
        if not isinstance(optimizer, _SUPPORTED):
            raise ArgumentError(
                f"state_dtype does not support the optimizer {type(optimizer).__name__}",
                key="state_dtype",
                found=str(dtype),
                notes=[f"It supports {', '.join(each.__name__ for each in _SUPPORTED)} and their subclasses."],
            )
        devices = {each.device for group in optimizer.param_groups for each in group["params"]}
        if len(devices) > 1:
            raise ArgumentError(
                "state_dtype does not support parameters on several devices",
                key="state_dtype",
                found=", ".join(sorted(map(str, devices))),
            )
        self._optimizer = optimizer
        self._generator = torch.Generator(devices.pop())
        self.steps = 0
        optimizer.register_step_pre_hook(lambda *_: self._widen())
        optimizer.register_step_post_hook(lambda *_: self.narrow())

    @torch.no_grad()
    def narrow(self) -> None:
        """Converts the state to bfloat16. Values that are exact in bfloat16 do not change."""
        self._generator.manual_seed(self.steps)
        self.steps += 1
        for state, key, value, _ in self._tensors():
            if value.dtype.itemsize > torch.bfloat16.itemsize:
                state[key] = self._rounded(value)

    def _widen(self) -> None:
        for state, key, value, parameter in self._tensors():
            if value.dtype is torch.bfloat16:
                state[key] = value.to(parameter.dtype)

    def _tensors(self) -> Iterator[tuple[dict[str, Any], str, Tensor, Tensor]]:
        """Yields each tensor of the state that has the shape of its parameter, with the dict and key that hold it, and
        the parameter."""
        parameters = [each for group in self._optimizer.param_groups for each in group["params"]]
        if tensor_parallel_size() > 1:
            # Last, because their parts may differ in size. All ranks need the same random numbers for the others.
            parameters.sort(key=is_split_layer)
        for parameter in parameters:
            state = self._optimizer.state.get(parameter, {})
            for key, value in list(state.items()):
                if _is_like_parameter(value, parameter):
                    yield state, key, value, parameter

    def _rounded(self, value: Tensor) -> Tensor:
        rounded = torch.empty_like(value, dtype=torch.bfloat16)
        bits = local_tensor(value).float().view(torch.int32)
        noise = torch.randint(
            1 << _DROPPED_BITS, bits.shape, generator=self._generator, dtype=torch.int32, device=bits.device
        )
        kept = bits.add(noise).bitwise_and_(-1 << _DROPPED_BITS)
        local_tensor(rounded).copy_(kept.view(torch.float32))
        return rounded


def widen_state(state: State, groups: Sequence[Mapping[str, Any]]) -> State:
    """Returns a saved state with its bfloat16 tensors in the precision of their parameters.

    Args:
        state: `state` and `param_groups`, in the grouping of the optimizer.
        groups: The groups of the optimizer.
    """

    def widen(value: Tensor, parameter: Tensor) -> Tensor:
        is_narrow = value.dtype is torch.bfloat16 and _is_like_parameter(value, parameter)
        return value.to(parameter.dtype) if is_narrow else value

    return map_tensors(state, groups, widen)


def _is_like_parameter(value: Any, parameter: Tensor) -> bool:
    is_real = isinstance(value, Tensor) and value.is_floating_point()
    return is_real and value.dim() > 0 and value.shape == parameter.shape
