"""Models whose weights are averages of the weights of a trained model."""

import copy
import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from footplate.checks import check_count, check_number
from footplate.distributed.sharding import distribute_like, is_dtensor, is_sharded, local_tensor, reshard
from footplate.errors import ArgumentError
from footplate.registry import MODELS

_logger = logging.getLogger("footplate.models")
_LARGE_MOMENTUM = 0.5


class BaseAveragedModel(nn.Module):
    """The base class of averaged models: a copy of a model whose parameters are running averages.

    The first update copies the values. Later updates average all parameters with one multi-tensor kernel. A subclass
    overrides `weight`, or, as in MMEngine, `avg_func`, which is called for each tensor.

    Args:
        model: The model to average.
        interval: Parameters are averaged at every `interval`-th update.
        device: The device of the averages; by default, that of the model. On a different device, the averages take up
            no memory on the model's device, but each update copies the weights and waits for the copy.
        update_buffers: Whether to average floating-point buffers as well, instead of copying them at each update.

    Raises:
        ArgumentError: `interval` is not a positive integer, or the model is sharded and not on `device`.
    """

    def __init__(
        self,
        model: nn.Module,
        interval: int = 1,
        device: torch.device | str | None = None,
        update_buffers: bool = False,
    ) -> None:
        super().__init__()
        check_count("interval", interval)
        copies: dict[int, Any] = {}
        if device is not None:
            try:
                target = torch.empty(0, device=device).device.type
            except (RuntimeError, AssertionError, TypeError) as error:  # torch raises all of them for unknown devices
                message = f"the device of the average is not available: {str(error).splitlines()[0]}"
                raise ArgumentError(message, key="device", found=device) from error
            if is_sharded(model) and any(parameter.device.type != target for parameter in model.parameters()):
                message = "the average of a sharded model is sharded like the model, so it cannot be on another device"
                raise ArgumentError(message, key="device", found=str(device))
            # The memo of `deepcopy`, which would otherwise need memory for a second model on the first device.
            for each in () if is_sharded(model) else itertools.chain(model.parameters(), model.buffers()):
                moved = each.detach().to(device, copy=True)
                copies[id(each)] = nn.Parameter(moved, requires_grad=False) if isinstance(each, nn.Parameter) else moved
        averages = _StateCopy(reshard(model)) if is_sharded(model) else copy.deepcopy(model, copies)
        self.module: Any = averages.requires_grad_(False)
        self.interval = interval
        self.update_buffers = update_buffers
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor(0, dtype=torch.long))
        self._count = 0  # the value of `steps` on the host; reading the buffer would wait for the device
        # In a tuple, since nn.Module would register the model as a submodule.
        self._source: tuple[nn.Module, _TensorLocations] | None = None
        self._own_tensors: _Tensors | None = None

    def weight(self, steps: int) -> float:
        """Returns the weight of the new values in the average, from 0 to 1.

        Args:
            steps: The number of earlier updates.
        """
        raise NotImplementedError

    avg_func: Callable[[Tensor, Tensor, int], None] | None = None
    """Updates an average in place with a value, given the number of earlier updates."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the averaged model."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Updates the averages with the current weights of `model`."""
        own, source = self._tensor_pairs(model)
        if self._count == 0:
            _copy(own.averaged, source.averaged)
        elif self._count % self.interval == 0:
            self._update(own, source)
        if not self.update_buffers or self._count == 0:
            _copy(own.copied, source.copied)
        self._count += 1

    def _update(self, own: "_Tensors", source: "_Tensors") -> None:
        averages, values = own.averaged, source.averaged
        if self.avg_func is not None:
            for average, value in zip(averages, values, strict=True):
                self.avg_func(average, value.to(average.device), self._count)
        elif averages:
            torch._foreach_lerp_(averages, _on_device_of(averages, values), self.weight(self._count))

    @torch.no_grad()
    def copy_from(self, model: nn.Module) -> None:
        """Replaces the averages with the values of `model`; the number of updates is unchanged."""
        own, source = self._tensor_pairs(model)
        _copy(own.averaged, source.averaged)
        _copy(own.copied, source.copied)

    @torch.no_grad()
    def swap_with(self, model: nn.Module) -> None:
        """Swaps all values with those of `model`."""
        self._source = None
        own, source = self._tensor_pairs(model)
        for ours, theirs in ((own.averaged, source.averaged), (own.copied, source.copied)):
            backup = [each.clone() for each in ours]
            _copy(ours, theirs)
            _copy(theirs, backup)
        self._source = None

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the averages, with the prefix `module.`, and the number of updates as `steps`."""
        self.steps.fill_(self._count)
        self._source = None
        return super().state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Loads the averages and the number of updates."""
        own = self.state_dict()
        placed = {name: distribute_like(each, own[name]) if name in own else each for name, each in state_dict.items()}
        return super().load_state_dict(placed, strict, assign)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Loads this module and updates the count; torch calls only this method if the average is a submodule."""
        super()._load_from_state_dict(*args, **kwargs)
        self._count = int(self.steps)
        self._own_tensors = self._source = None

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for copying and pickling, without the source model, which may not support either."""
        return {**self.__dict__, "_own_tensors": None, "_source": None}

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """Moves or converts the averages. This may replace their tensors."""
        self._own_tensors = self._source = None
        return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _tensor_pairs(self, model: nn.Module) -> "tuple[_Tensors, _Tensors]":
        """Returns the tensors of the averages and of `model`. A sharded tensor is represented by its local shard."""
        reshard(model)
        if self._source is None or self._source[0] is not model:
            self._source = model, _TensorLocations(model, self.update_buffers)
        if self._own_tensors is None:
            self._own_tensors = _TensorLocations(self.module, self.update_buffers).tensors()
        return self._own_tensors, self._source[1].tensors()


@MODELS.register_module()
class ExponentialMovingAverage(BaseAveragedModel):
    """An exponential moving average: `average = (1 - momentum) * average + momentum * value`.

    Args:
        model: The model to average.
        momentum: The weight of the new values, above 0 and below 1; usually a small number.
        settings: Arguments for `BaseAveragedModel`.

    Raises:
        ArgumentError: `momentum` is out of range.

    Example:
        >>> from torch import nn
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> average = ExponentialMovingAverage(layer, momentum=0.1)
        >>> for value in (1.0, 2.0):
        ...     nn.init.constant_(layer.weight, value) is layer.weight and average.update_parameters(layer)
        >>> round(average.module.weight.item(), 4)
        1.1
    """

    def __init__(self, model: nn.Module, momentum: float = 0.0002, **settings: Any) -> None:
        super().__init__(model, **settings)
        check_number("momentum", momentum, above=0, below=1)
        if momentum > _LARGE_MOMENTUM:
            _logger.warning(
                "momentum=%g is large for an averaged model: it is the weight of new values. Set it to at most %g.",
                momentum,
                _LARGE_MOMENTUM,
            )
        self.momentum = momentum

    def weight(self, steps: int) -> float:
        """Returns the momentum."""
        return self.momentum


@MODELS.register_module()
class StochasticWeightAverage(BaseAveragedModel):
    """The mean of all values so far (SWA).

    Source: Averaging Weights Leads to Wider Optima and Better Generalization (Izmailov et al., 2018).
    """

    def weight(self, steps: int) -> float:
        """Returns 1 / n, the weight of the n-th model in the mean."""
        return 1 / (steps // self.interval + 1)


@MODELS.register_module()
class MomentumAnnealingEMA(ExponentialMovingAverage):
    """An exponential moving average whose momentum decays: `max(momentum, gamma / (gamma + steps))`.

    Args:
        model: The model to average.
        momentum: The final weight of the new values.
        gamma: The decay constant; a larger value makes the momentum decay more slowly.
        settings: Arguments for `BaseAveragedModel`.

    Raises:
        ArgumentError: `gamma` or `momentum` is out of range.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.0002, gamma: float = 100, **settings: Any) -> None:
        super().__init__(model, momentum, **settings)
        check_number("gamma", gamma, above=0)
        self.gamma = gamma

    def weight(self, steps: int) -> float:
        """Returns the decayed momentum."""
        return max(self.momentum, self.gamma / (self.gamma + steps))


@MODELS.register_module()
class WarmUpEMA(ExponentialMovingAverage):
    """An exponential moving average with a warm-up, as computed by the EMA hook of the first generation.

    The weight of the new values is `min(momentum ** interval, (1 + steps) / (warm_up + steps))`.

    Args:
        model: The model to average; its initial values are the initial averages.
        momentum: The weight of the new values after the warm-up, for an interval of 1.
        warm_up: The warm-up constant; a larger value makes the weight grow more slowly.
        settings: Arguments for `BaseAveragedModel`.

    Raises:
        ArgumentError: `warm_up` or `momentum` is out of range.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.0002, warm_up: int = 100, **settings: Any) -> None:
        super().__init__(model, momentum, **settings)
        self.warm_up = check_count("warm_up", warm_up)

    def weight(self, steps: int) -> float:
        """Returns the weight of the new values."""
        return min(self.momentum**self.interval, (1 + steps) / (self.warm_up + steps))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Updates the averages with the current weights of `model`. The first update averages too."""
        own, source = self._tensor_pairs(model)
        if self._count % self.interval == 0:
            self._update(own, source)
        _copy(own.copied, source.copied)
        self._count += 1


class _StateCopy(nn.Module):
    """A copy of the parameters and buffers of a sharded model, which does not support `deepcopy`.

    Its parameters and buffers have the same names as in the model. Modules that share a parameter in the model share it
    in the copy. It has no `forward`.
    """

    def __init__(self, model: nn.Module, copies: dict[int, nn.Parameter] | None = None) -> None:
        super().__init__()
        copies = {} if copies is None else copies
        for name, parameter in model._parameters.items():
            if parameter is not None and id(parameter) not in copies:
                copies[id(parameter)] = nn.Parameter(parameter.detach().clone())
            self.register_parameter(name, None if parameter is None else copies[id(parameter)])
        for name, buffer in model._buffers.items():
            is_persistent = name not in model._non_persistent_buffers_set
            self.register_buffer(name, None if buffer is None else buffer.detach().clone(), persistent=is_persistent)
        for name, child in model.named_children():
            self.add_module(name, _StateCopy(child, copies))


class _Tensors(NamedTuple):
    """The tensors of a model, grouped by the way they are updated."""

    averaged: list[Tensor]
    copied: list[Tensor]


class _TensorLocations:
    """The dicts in which the modules of a model store their tensors.

    Iterating over the modules takes longer than averaging their weights, so it is done once. Buffers are looked up
    again at each update, since a module may replace them. Parameters are not, since the optimizer does not replace
    them: looking up a hundred of them would take half as long as averaging.
    """

    def __init__(self, model: nn.Module, update_buffers: bool) -> None:
        parameters = [owner[name] for owner, name in _locate_tensors(model, "_parameters")]
        self._parameters: list[Tensor] = [parameter for parameter in parameters if _has_average(parameter)]
        self._integers: list[Tensor] = [parameter for parameter in parameters if not _has_average(parameter)]
        self._averaged: list[tuple[dict[str, Any], str]] = []
        self._copied: list[tuple[dict[str, Any], str]] = []
        for owner, name in _locate_tensors(model, "_buffers"):
            is_averaged = update_buffers and _has_average(owner[name])
            (self._averaged if is_averaged else self._copied).append((owner, name))
        self._is_sharded = any(map(is_dtensor, itertools.chain(model.parameters(), model.buffers())))

    def tensors(self) -> _Tensors:
        """Returns the current tensors."""
        averaged = [*self._parameters, *(owner[name] for owner, name in self._averaged)]
        copied = [*self._integers, *(owner[name] for owner, name in self._copied)]
        if self._is_sharded:
            averaged, copied = list(map(local_tensor, averaged)), list(map(local_tensor, copied))
        return _Tensors(averaged, copied)


def _has_average(tensor: Tensor) -> bool:
    """Checks whether a tensor contains real or complex numbers, which can be averaged."""
    return tensor.is_floating_point() or tensor.is_complex()


def _copy(targets: list[Tensor], values: list[Tensor]) -> None:
    if targets and targets[0].device.type == "cpu":
        values = _on_device_of(targets, values)
    if targets:  # copied to an accelerator without a second copy of the values there
        torch._foreach_copy_(targets, values)


def _on_device_of(targets: list[Tensor], values: list[Tensor]) -> list[Tensor]:
    """Copies `values` to the device of `targets` and returns the copies. Copies to the CPU are awaited together."""
    device, source = targets[0].device, values[0].device
    if device == source:
        return values
    moved = [value.to(device, non_blocking=True) for value in values]
    if device.type == "cpu":
        torch.accelerator.current_stream(source).synchronize()
    return moved


def _locate_tensors(model: nn.Module, attribute: str) -> list[tuple[dict[str, Any], str]]:
    """Returns the containing dict and the name of each tensor in `attribute`, "_parameters" or "_buffers".

    Shared tensors are listed once.
    """
    locations: dict[int, tuple[dict[str, Any], str]] = {}
    for module in model.modules():
        owner: dict[str, Any] = getattr(module, attribute)
        for name, tensor in owner.items():
            if tensor is not None:
                locations.setdefault(id(tensor), (owner, name))
    return list(locations.values())
