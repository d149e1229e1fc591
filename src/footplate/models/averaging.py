"""Models whose weights are averages of another model's weights over training."""

import copy
import itertools
import logging
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from footplate.checks import check_count
from footplate.distributed.sharding import distribute_like, is_dtensor, is_sharded, local_tensor, reshard
from footplate.errors import ArgumentError
from footplate.registry import MODELS

_logger = logging.getLogger("footplate.models")
_LARGE_MOMENTUM = 0.5


class BaseAveragedModel(nn.Module):
    """A copy of a model that follows it slowly; a subclass says how slowly.

    The first update copies. Parameters are averaged all at once, by torch's multi-tensor kernels.

    Args:
        model: The model to follow.
        interval: Updates between two that average; those between do nothing to parameters.
        device: Where the copy is kept; by default where the model is.
        update_buffers: Whether buffers of floating point are averaged too, rather than copied at each update.

    Raises:
        ArgumentError: The interval is no positive number.
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
        self.module: Any = (_Likeness(reshard(model)) if is_sharded(model) else copy.deepcopy(model)).requires_grad_(
            False
        )
        if device is not None:
            self.module = self.module.to(device)
        self.interval = interval
        self.update_buffers = update_buffers
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor(0, dtype=torch.long))
        self._count = 0  # of updates; read from the buffer only when that was loaded
        self._followed: tuple[nn.Module, _Places] | None = None  # in a tuple, or it would be a part of this module
        self._mine: _Tensors | None = None

    def weight(self, steps: int) -> float:
        """Returns the share of the model's values in an average; `steps` updates were made before."""
        raise NotImplementedError

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the copy."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Takes in the weights of `model`, which has those of the model that was copied."""
        mine, theirs = self._tensors_of(model)
        if self._count == 0:
            _copy(mine.averaged, theirs.averaged)
        elif self._count % self.interval == 0:
            _mix(mine.averaged, theirs.averaged, self.weight(self._count), mine.whole)
        if not self.update_buffers or self._count == 0:
            _copy(mine.copied, theirs.copied)
        self._count += 1

    @torch.no_grad()
    def copy_from(self, model: nn.Module) -> None:
        """Takes over all values of `model`, as if averaging had not begun."""
        mine, theirs = self._tensors_of(model)
        _copy(mine.averaged, theirs.averaged)
        _copy(mine.copied, theirs.copied)

    @torch.no_grad()
    def swap_with(self, model: nn.Module) -> None:
        """Exchanges all values with `model`."""
        self._followed = None
        mine, theirs = self._tensors_of(model)
        for ours, others in ((mine.averaged, theirs.averaged), (mine.copied, theirs.copied)):
            kept = [each.clone() for each in ours]
            _copy(ours, others)
            _copy(others, kept)
        self._followed = None

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the averages, under `module.`, and how many updates they are of."""
        self.steps.fill_(self._count)
        self._followed = None
        return super().state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes back what `state_dict` gave."""
        own = self.state_dict()
        placed = {name: distribute_like(each, own[name]) if name in own else each for name, each in state_dict.items()}
        return super().load_state_dict(placed, strict, assign)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Takes the count too; of a model that the average is a part of, torch loads each part by this alone."""
        super()._load_from_state_dict(*args, **kwargs)
        self._count = int(self.steps)
        self._mine = self._followed = None

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is copied or pickled: not the model that is followed, which may be none that can be."""
        return {**self.__dict__, "_mine": None, "_followed": None}

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """Moves or converts the copy, which may give it other tensors."""
        self._mine = self._followed = None
        return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _tensors_of(self, model: nn.Module) -> "tuple[_Tensors, _Tensors]":
        """Returns what the copy holds and what `model` holds, each process of tensors in parts its own."""
        reshard(model)
        if self._followed is None or self._followed[0] is not model:
            self._followed = model, _Places(model, self.update_buffers)
        if self._mine is None:
            self._mine = _Places(self.module, self.update_buffers).tensors()
        return self._mine, self._followed[1].tensors()


@MODELS.register_module()
class ExponentialMovingAverage(BaseAveragedModel):
    """average = (1 - momentum) * average + momentum * value.

    Args:
        model: The model to follow.
        momentum: The share of the model's values, above 0 and below 1; a small number.
        settings: Those of `BaseAveragedModel`.

    Raises:
        ArgumentError: The momentum is out of its range.

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
        if isinstance(momentum, bool) or not isinstance(momentum, (int, float)) or not 0 < momentum < 1:
            raise ArgumentError("momentum lies above 0 and below 1", key="momentum", found=momentum)
        if momentum > _LARGE_MOMENTUM:
            _logger.warning("momentum=%g of an average is the share of the new values, a small number", momentum)
        self.momentum = momentum

    def weight(self, steps: int) -> float:
        """Returns the momentum."""
        return self.momentum


@MODELS.register_module()
class StochasticWeightAverage(BaseAveragedModel):
    """The mean of all values so far.

    Source: Averaging Weights Leads to Wider Optima and Better Generalization (Izmailov et al., 2018).
    """

    def weight(self, steps: int) -> float:
        """Returns one part of all that are in the mean."""
        return 1 / (steps // self.interval + 1)


@MODELS.register_module()
class MomentumAnnealingEMA(ExponentialMovingAverage):
    """An exponential average that follows faster at first: its share is gamma / (gamma + steps) or the momentum.

    Args:
        model: The model to follow.
        momentum: The least share of the model's values.
        gamma: How slowly the share falls.
        settings: Those of `BaseAveragedModel`.

    Raises:
        ArgumentError: `gamma` or the momentum is out of its range.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.0002, gamma: float = 100, **settings: Any) -> None:
        super().__init__(model, momentum, **settings)
        if not isinstance(gamma, (int, float)) or not 0 < gamma < math.inf:
            raise ArgumentError("gamma must be a finite number above 0", key="gamma", found=gamma)
        self.gamma = gamma

    def weight(self, steps: int) -> float:
        """Returns the share of the model's values."""
        return max(self.momentum, self.gamma / (self.gamma + steps))


@MODELS.register_module()
class WarmUpEMA(ExponentialMovingAverage):
    """The first generation's exponential average, whose share grows to momentum ** interval while it warms up.

    Args:
        model: The model to follow; its values at first are those of the average.
        momentum: The share of the model's values after the warm-up, for an interval of 1.
        warm_up: How slowly the share grows: it is at most (1 + steps) / (warm_up + steps).
        settings: Those of `BaseAveragedModel`.

    Raises:
        ArgumentError: `warm_up` or the momentum is out of its range.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.0002, warm_up: int = 100, **settings: Any) -> None:
        super().__init__(model, momentum, **settings)
        self.warm_up = check_count("warm_up", warm_up)

    def weight(self, steps: int) -> float:
        """Returns the share of the model's values."""
        return min(self.momentum**self.interval, (1 + steps) / (self.warm_up + steps))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Takes in the weights of `model`; unlike the others it averages at the first update too."""
        mine, theirs = self._tensors_of(model)
        if self._count % self.interval == 0:
            _mix(mine.averaged, theirs.averaged, self.weight(self._count), mine.whole)
        _copy(mine.copied, theirs.copied)
        self._count += 1


class _Likeness(nn.Module):
    """A model's parameters and buffers under its names, without what it computes: sharded models cannot be copied."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, parameter in model._parameters.items():
            self.register_parameter(name, None if parameter is None else nn.Parameter(parameter.detach().clone()))
        for name, buffer in model._buffers.items():
            kept = name not in model._non_persistent_buffers_set
            self.register_buffer(name, None if buffer is None else buffer.detach().clone(), persistent=kept)
        for name, child in model.named_children():
            self.add_module(name, _Likeness(child))


class _Tensors(NamedTuple):
    """The tensors of a model; `whole` tells which of the averaged hold whole numbers, which have no average."""

    averaged: list[Tensor]
    copied: list[Tensor]
    whole: list[int]


class _Places:
    """Where the modules of a model keep their tensors.

    Walking through the modules of a model takes longer than averaging its weights, so that it is done once. Buffers
    that take the place of others are found all the same. Parameters are those that the optimizer steps, the same
    throughout: looking them up in a hundred cold dicts would take half as long as the averaging.

    Args:
        model: The model.
        update_buffers: Whether buffers of floating point are averaged.
    """

    def __init__(self, model: nn.Module, update_buffers: bool) -> None:
        buffers = _places(model, "_buffers")
        floats = [update_buffers and _has_average(held[name]) for held, name in buffers]
        self._parameters: list[Tensor] = [held[name] for held, name in _places(model, "_parameters")]
        self._averaged = list(itertools.compress(buffers, floats))
        self._copied = [each for each, floating in zip(buffers, floats, strict=True) if not floating]
        self._whole = [at for at, each in enumerate(self._parameters) if not _has_average(each)]
        held_buffers = [held[name] for held, name in buffers]
        self._in_parts = any(map(is_dtensor, [*self._parameters, *held_buffers]))

    def tensors(self) -> _Tensors:
        """Returns the tensors that are there now."""
        copied = [held[name] for held, name in self._copied]
        averaged = self._parameters
        if self._averaged:
            averaged = [*averaged, *(held[name] for held, name in self._averaged)]
        if self._in_parts:
            averaged, copied = [local_tensor(each) for each in averaged], [local_tensor(each) for each in copied]
        return _Tensors(averaged, copied, self._whole)


def _mix(averages: list[Tensor], values: list[Tensor], weight: float, left_out: list[int]) -> None:
    if left_out:
        averages, values = ([each for at, each in enumerate(all_) if at not in left_out] for all_ in (averages, values))
    if not averages:
        return
    if averages[0].device != values[0].device:
        values = [value.to(average.device) for average, value in zip(averages, values, strict=True)]
    torch._foreach_lerp_(averages, values, weight)


def _has_average(tensor: Tensor) -> bool:
    """Checks for real or complex numbers: whole ones have no average."""
    return tensor.is_floating_point() or tensor.is_complex()


def _copy(targets: list[Tensor], values: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, values)


def _places(model: nn.Module, kind: str) -> list[tuple[dict[str, Any], str]]:
    """Returns the dicts of modules with the names of the parameters or buffers in them, each tensor once."""
    found: dict[int, tuple[dict[str, Any], str]] = {}
    for module in model.modules():
        held: dict[str, Any] = getattr(module, kind)
        for name, tensor in held.items():
            if tensor is not None:
                found.setdefault(id(tensor), (held, name))
    return list(found.values())
