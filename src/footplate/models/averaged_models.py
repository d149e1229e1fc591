"""Models whose weights are running averages of a trained model's weights."""

import copy
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from footplate.checkpoint.loading import add_empty_buffers
from footplate.checks import check_count, check_number
from footplate.distributed.sharding import distribute_like, is_sharded, local_tensor, reshard
from footplate.errors import ArgumentError
from footplate.module_selection import named_children
from footplate.registry import MODELS

_logger = logging.getLogger("footplate.models")
# Two dicts that contain a tensor, one from the averaged model and one from the source model, and the tensor's key in
# both. The tensors themselves are not kept, because modules may replace them.
_Pair = tuple[dict[str, Any], dict[str, Any], str]


class BaseAveragedModel(nn.Module):
    """Base class for averaged models: copies of a model whose parameters are running averages.

    The first update copies the values. Later updates average all parameters with one multi-tensor kernel. Subclasses
    override `weight` or, as in MMEngine, `avg_func`, which is called for each tensor.

    Args:
        model: The model to average.
        interval: Parameters are averaged in every `interval`-th update.
        device: The device for the averages. Defaults to the model's device. A different device saves memory on the
            model's device, but each update waits for the weights to be copied.
        update_buffers: Whether to average floating-point buffers rather than copying them in each update.

    Attributes:
        count: The number of updates so far.

    Raises:
        ArgumentError: `interval` is not a positive integer, or `device` is set for a sharded model.
    """

    def __init__(
        self,
        model: nn.Module,
        interval: int = 1,
        device: torch.device | str | None = None,
        update_buffers: bool = False,
    ) -> None:
        super().__init__()
        self.interval = check_count("interval", interval)
        self.update_buffers = update_buffers
        self._is_sharded = is_sharded(model)
        if self._is_sharded and device is not None:
            raise ArgumentError("`device` cannot be set for the average of a sharded model", key="device", found=device)
        averages = _StateCopy(reshard(model)) if self._is_sharded else copy.deepcopy(model).to(device)
        self.module: Any = averages.requires_grad_(False)
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor(0, dtype=torch.long))
        self.count = 0  # a copy of `steps` on the host, because reading the buffer would synchronize with the device
        self._paired: Any = None  # the model from the latest call, and its tensors
        # torch also calls it if this is a submodule.
        self.register_load_state_dict_post_hook(_restore_count)  # type: ignore[no-untyped-call]

    def weight(self, steps: int) -> float:
        """Returns the weight of new values in the average, from 0 to 1.

        Args:
            steps: The number of previous updates.
        """
        raise NotImplementedError

    avg_func: Callable[[Tensor, Tensor, int], None] | None = None
    """Takes an average, a new value and the number of previous updates, and updates the average in place.

    If None, averages are weighted by `weight`.
    """

    @property
    def avg_parameters(self) -> dict[str, Tensor]:
        """The averaged parameters, keyed by name. Includes buffers if `update_buffers` is set.

        Subclasses that override `update_parameters`, as in MMYOLO, use this property.
        """
        return self.module.state_dict() if self.update_buffers else dict(self.module.named_parameters())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the averaged model."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Updates the averages with the current weights of `model`."""
        if self.count == 0:
            self.copy_from(model)
        else:
            self._update(model)
        self.count += 1

    def _update(self, model: nn.Module) -> None:
        (averages, values), (copies, sources) = self._pair_with(model)
        if averages and self.count % self.interval == 0:
            if values[0].device != averages[0].device:
                values = [value.to(averages[0].device) for value in values]
            if self.avg_func is None:
                torch._foreach_lerp_(averages, values, self.weight(self.count))
            else:
                for average, value in zip(averages, values, strict=True):
                    self.avg_func(average, value, self.count)
            for average, value in zip(averages, values, strict=True) if self.update_buffers else ():
                if not isinstance(value, nn.Parameter):
                    average.copy_(torch.where(average.isfinite(), average, value))  # infinity in a mask has no average
        _copy(copies, sources)

    @torch.no_grad()
    def copy_from(self, model: nn.Module) -> None:
        """Replaces the averages with the values of `model`, and resets the number of updates to 0."""
        self.count = 0
        self.steps.zero_()
        for ours, theirs in self._pair_with(model):
            _copy(ours, theirs)

    @torch.no_grad()
    def swap_with(self, model: nn.Module) -> None:
        """Swaps all averages with the values of `model`."""
        add_empty_buffers(self.module, model.state_dict())  # those that `model` has created
        self._paired = None
        for ours, theirs in self._pair_with(model):
            backup = [tensor.clone() for tensor in ours]
            _copy(ours, theirs)
            _copy(theirs, backup)

    def _pair_with(self, model: nn.Module) -> list[tuple[list[Tensor], list[Tensor]]]:
        """Returns two pairs of tensor lists: the tensors to average, and the tensors to copy.

        Each pair contains the tensors of the averaged model and the corresponding tensors of `model`.

        For sharded tensors, the lists contain the local shards.
        """
        if self._is_sharded:
            reshard(model)
        # Iterating over modules takes longer than averaging their weights, so it is done only once.
        if self._paired is None or self._paired[0] is not model:
            self._paired = model, *self._find_pairs(model)
        tensors = [
            ([averaged[name] for averaged, _, name in pairs], [source[name] for _, source, name in pairs])
            for pairs in self._paired[1:]
        ]
        if self._is_sharded:
            return [(list(map(local_tensor, ours)), list(map(local_tensor, theirs))) for ours, theirs in tensors]
        return tensors

    def _find_pairs(self, model: nn.Module) -> "tuple[list[_Pair], list[_Pair]]":
        averaged: list[_Pair] = []
        copied: list[_Pair] = []
        seen = set()  # shared tensors are averaged only once
        for path, module in model.named_modules():
            for store in ("_parameters", "_buffers"):
                ours = getattr(self.module.get_submodule(path), store)
                theirs = getattr(module, store)
                for name, tensor in theirs.items():
                    if tensor is None or ours.get(name) is None or id(tensor) in seen:
                        continue
                    seen.add(id(tensor))
                    can_average = tensor.is_floating_point() or tensor.is_complex()
                    is_averaged = can_average and (self.update_buffers or store == "_parameters")
                    pairs = averaged if is_averaged else copied
                    pairs.append((ours, theirs, name))
        return averaged, copied

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the averages, with the prefix `module.`, and the number of updates as `steps`."""
        # Subclasses that override `update_parameters`, as in MMYOLO, update `steps` themselves.
        self.steps.fill_(max(self.count, int(self.steps)))
        return super().state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Loads the averages and the number of updates."""
        add_empty_buffers(self, state_dict)
        averages = self.state_dict()
        placed = {
            name: distribute_like(value, averages[name]) if name in averages else value
            for name, value in state_dict.items()
        }
        return super().load_state_dict(placed, strict, assign)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for copying and pickling. Omits the source model, which may not support either."""
        return {**self.__dict__, "_paired": None}


@MODELS.register_module()
class ExponentialMovingAverage(BaseAveragedModel):
    """An exponential moving average: `average = (1 - momentum) * average + momentum * value`.

    Args:
        model: The model to average.
        momentum: The weight of new values, above 0 and below 1. Usually a small number.
        settings: Arguments for `BaseAveragedModel`.

    Raises:
        ArgumentError: `momentum` is out of range.

    Example:
        >>> from torch import nn
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> average = ExponentialMovingAverage(layer, momentum=0.1)
        >>> for value in (1.0, 2.0):
        ...     _ = nn.init.constant_(layer.weight, value)
        ...     average.update_parameters(layer)
        >>> round(average.module.weight.item(), 4)
        1.1
    """

    def __init__(self, model: nn.Module, momentum: float = 0.0002, **settings: Any) -> None:
        super().__init__(model, **settings)
        check_number("momentum", momentum, above=0, below=1)
        if momentum > 0.5:
            _logger.warning(
                "momentum=%g is large: it is the weight of new values, not of the average. For a decay of %g, set "
                "momentum=%g.",
                momentum,
                momentum,
                1 - momentum,
            )
        self.momentum = momentum

    def weight(self, steps: int) -> float:
        """Returns the momentum, which is the same for all steps."""
        return self.momentum


@MODELS.register_module()
class StochasticWeightAverage(BaseAveragedModel):
    """Stochastic weight averaging (SWA): the mean of the values in every `interval`-th update so far.

    Source: Averaging Weights Leads to Wider Optima and Better Generalization (Izmailov et al., 2018).
    """

    def weight(self, steps: int) -> float:
        """Returns 1 / n, the weight of the n-th model in the mean."""
        return 1 / (steps // self.interval + 1)


@MODELS.register_module()
class MomentumAnnealingEMA(ExponentialMovingAverage):
    """An exponential moving average with the momentum `max(momentum, gamma / (gamma + steps))` after `steps` updates.

    Args:
        model: The model to average.
        momentum: The final weight of new values.
        gamma: The decay constant. With larger values, the momentum decays more slowly.
        settings: Arguments for `BaseAveragedModel`.

    Raises:
        ArgumentError: `gamma` or `momentum` is out of range.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.0002, gamma: float = 100, **settings: Any) -> None:
        super().__init__(model, momentum, **settings)
        check_number("gamma", gamma, above=0)
        self.gamma = gamma

    def weight(self, steps: int) -> float:
        """Returns the momentum after it has decayed for `steps` updates."""
        return max(self.momentum, self.gamma / (self.gamma + steps))


class _StateCopy(nn.Module):
    """Copies the parameters and buffers of a sharded model, which does not support `deepcopy`.

    The copy uses the model's names. Parameters that are shared in the model are also shared in the copy. The copy has
    no `forward`.
    """

    def __init__(self, model: nn.Module, copies: dict[int, nn.Parameter] | None = None) -> None:
        super().__init__()
        copies = {} if copies is None else copies
        for name, parameter in model.named_parameters(recurse=False, remove_duplicate=False):
            if id(parameter) not in copies:
                copies[id(parameter)] = nn.Parameter(parameter.detach().clone())
            self.register_parameter(name, copies[id(parameter)])
        saved = model.state_dict()
        for name, buffer in model.named_buffers(recurse=False, remove_duplicate=False):
            self.register_buffer(name, buffer.detach().clone(), persistent=name in saved)
        for name, child in named_children(model):
            self.add_module(name, _StateCopy(child, copies))


def _restore_count(average: Any, _: Any) -> None:
    average.count = int(average.steps)


def _copy(targets: list[Tensor], values: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, values)
