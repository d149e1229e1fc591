"""The state of an optimizer: matches a saved state to the parameters, checks it, and keeps it in bfloat16."""

import copy
import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, Optimizer, RAdam, RMSprop

from footplate.checks import check_choice
from footplate.distributed import tensor_parallel_size
from footplate.distributed.sharding import distribute_like, is_dtensor, is_split_layer, local_tensor
from footplate.errors import ArgumentError, CheckpointError
from footplate.messages import pluralize
from footplate.optim.lars import LARS
from footplate.optim.muon import Muon

State = dict[str, Any]
_SUPPORTED = (SGD, Adam, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, LARS, Muon)
_DROPPED_BITS = 16  # bfloat16 consists of the upper 16 bits of a float32
_IMPLEMENTATION = ("fused", "foreach", "capturable")  # settings that select a kernel; not all run on "meta"


@dataclasses.dataclass(frozen=True)
class Layout:
    """The grouping of the parameters of an optimizer."""

    names: list[list[str]]
    """The names of the parameters of each group."""
    order: list[str]
    """The names of all parameters, in the order of the model."""
    frozen: frozenset[str] = frozenset()
    """The names of frozen parameters, which states of other engines may not contain."""

    def parameter_names(self, *, with_frozen: bool = True) -> list[str]:
        """Returns the names of the parameters of the optimizer, in the order of the model."""
        grouped = set(itertools.chain.from_iterable(self.names))
        return [name for name in self.order if name in grouped and (with_frozen or name not in self.frozen)]


def regroup(saved: Mapping[str, Any], groups: Sequence[State], layout: Layout) -> State:
    """Converts a saved state to the `groups` of an optimizer with the given layout.

    Parameters are matched by `param_names`. A state without names is used as it is if it has the grouping of the
    optimizer. Otherwise it must have one group per parameter or a single group, in the order of the model.

    Raises:
        CheckpointError: The state belongs to different parameters.
    """
    locations = _locate_parameters(saved["param_groups"], layout)
    missing = [name for name in layout.parameter_names(with_frozen=False) if name not in locations]
    if missing:
        raise CheckpointError(
            f"the saved optimizer state lacks {pluralize(len(missing), 'parameter')}, such as '{missing[0]}'"
        )
    regrouped = []
    for group, members in zip(groups, layout.names, strict=True):
        first = next((locations[name] for name in members if name in locations), None)
        source = {} if first is None else saved["param_groups"][first[0]]
        # Some optimizers add settings to a group at their first step. Other engines add some that are meaningless here.
        is_ours = "param_names" in source
        settings = {
            key: value for key, value in source.items() if is_ours or key in group or key.startswith("initial_")
        }
        settings.pop("param_names", None)
        keys = [locations[name][1] if name in locations else f"no state of {name}" for name in members]
        regrouped.append({**group, **settings, "params": keys})
    return {"state": saved["state"], "param_groups": regrouped}


def shard_like_parameters(state: State, groups: Sequence[Mapping[str, Any]]) -> State:
    """Returns `state` with each tensor sharded like its parameter, or unsharded if its parameter is not sharded."""
    parameters = [each for group in groups for each in group["params"]]
    tensors = [*parameters, *(each for values in state["state"].values() for each in values.values())]
    if not any(isinstance(each, torch.Tensor) and is_dtensor(each) for each in tensors):
        return state
    # Sorted, since sharding is a collective operation, which all ranks must call in the same order.
    ordered = dict(sorted(state["state"].items(), key=lambda item: str(item[0])))
    return map_tensors(
        {**state, "state": ordered},
        groups,
        lambda value, owner: distribute_like(value, owner) if value.dim() else value,
    )


def map_tensors(
    state: State, groups: Sequence[Mapping[str, Any]], convert: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> State:
    """Returns `state` with each tensor of a parameter replaced by `convert(tensor, parameter)`.

    `groups` are the groups of the optimizer. The state must have the same grouping.
    """
    pairs = zip(state["param_groups"], groups, strict=True)
    owners = {key: each for saved, own in pairs for key, each in zip(saved["params"], own["params"], strict=True)}
    mapped: State = {}
    for key, values in state["state"].items():
        mapped[key] = values
        if key in owners and isinstance(values, Mapping):
            mapped[key] = {
                name: convert(value, owners[key]) if isinstance(value, torch.Tensor) else value
                for name, value in values.items()
            }
    return {**state, "state": mapped}


def split_groups(state: Mapping[str, Any], layout: Layout) -> State:
    """Returns `state` with one group per parameter in the order of the model, as other engines store it."""
    locations = _locate_parameters(state["param_groups"], layout)
    groups: list[State] = []
    values = {}
    for name in layout.parameter_names():
        source, index = locations[name]
        fields = {k: v for k, v in state["param_groups"][source].items() if k not in ("params", "param_names")}
        if index in state["state"]:
            values[len(groups)] = state["state"][index]
        groups.append({**fields, "params": [len(groups)]})
    return {"state": values, "param_groups": groups}


def reorder_by_name(values: Sequence[Any], saved: Sequence[Sequence[str]], order: Iterable[str]) -> list[Any]:
    """Returns one value per name in `order`, with None for names that were not `saved`. `saved` consists of groups."""
    by_name = dict(zip(itertools.chain.from_iterable(saved), values, strict=False))
    return [by_name.get(name) for name in order]


def _locate_parameters(groups: Sequence[Mapping[str, Any]], layout: Layout) -> dict[str, tuple[int, Any]]:
    """Maps each parameter name to the index of its saved group and its key in the saved state."""
    return {
        name: (number, index)
        for number, (group, names) in enumerate(zip(groups, saved_names(groups, layout), strict=True))
        for name, index in zip(names, group["params"], strict=True)
    }


def saved_names(groups: Sequence[Mapping[str, Any]], layout: Layout) -> Sequence[Sequence[str]]:
    """Returns the names of the parameters of each saved group.

    Raises:
        CheckpointError: The groups have no names, and their number of parameters differs from that of the optimizer.
    """
    sizes = [len(group["params"]) for group in groups]
    if all(len(group.get("param_names", ())) == size for group, size in zip(groups, sizes, strict=True)):
        return [group["param_names"] for group in groups]
    if sizes == [len(each) for each in layout.names]:
        return layout.names
    even = len(sizes) == 1 or set(sizes) == {1}
    for candidates in (layout.parameter_names(), layout.parameter_names(with_frozen=False)):
        if even and sum(sizes) == len(candidates):
            names = iter(candidates)
            return [list(itertools.islice(names, size)) for size in sizes]
    raise CheckpointError(
        f"the saved optimizer state has {pluralize(sum(sizes), 'parameter')} in {pluralize(len(sizes), 'group')}, "
        f"but the optimizer has {len(layout.parameter_names())} in {len(layout.names)}"
    )


def check_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Checks whether an optimizer of torch can use a saved state, which has the grouping of the optimizer.

    Runs a trial step for each parameter on the meta device. Optimizers of other packages are not checked.

    Raises:
        CheckpointError: A trial step fails.
    """
    if not type(optimizer).__module__.startswith("torch.optim"):
        return
    for number, (saved, own) in enumerate(zip(state["param_groups"], optimizer.param_groups, strict=True)):
        if not own["params"] or not _steps(optimizer, own, own["params"][0], {}):  # some settings do not support "meta"
            continue
        settings = {**own, **saved, **{key: own[key] for key in _IMPLEMENTATION if key in own}}
        for key, parameter in zip(saved["params"], own["params"], strict=True):
            values = state["state"].get(key, {})
            if not isinstance(values, Mapping) or not _steps(optimizer, settings, parameter, values):
                raise CheckpointError(
                    f"the saved state of parameter {key} of the optimizer, in group {number}, does not fit the "
                    f"settings and a parameter of shape {list(parameter.shape)}",
                    found=_shapes(values),
                )


def _shapes(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return type(values).__name__
    return {key: list(value.shape) for key, value in values.items() if isinstance(value, torch.Tensor)}


def _steps(optimizer: Optimizer, group: Mapping[str, Any], parameter: torch.Tensor, values: Mapping[str, Any]) -> bool:
    """Checks whether a step of the optimizer succeeds on the meta device with the state `values`."""
    stand_in = torch.nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype, device="meta"))
    stand_in.grad = torch.empty_like(stand_in)
    state = dict(values)
    for key, value in values.items():
        if isinstance(value, torch.Tensor):
            # A 0-d tensor keeps its value, since the optimizer may read it, like that of `step`.
            # Not empty_like, which returns a sharded tensor for a sharded one.
            state[key] = (
                torch.empty(value.shape, dtype=value.dtype, device="meta")
                if value.dim()
                else value.detach().cpu().clone()
            )
    trial = copy.copy(optimizer)  # without the hooks of steps
    trial.state = defaultdict(dict, {stand_in: state} if state else {})
    trial.param_groups = [{**group, "params": [stand_in]}]
    try:
        type(trial).step(trial)
    except Exception:  # whatever the reason, a real step would fail too
        return False
    return True


class BFloat16State:
    """Converts the state of an optimizer to the precision of the parameters for each step, and back to bfloat16.

    Stochastic rounding keeps the mean: with rounding to the nearest value, a running mean could not change by less than
    a 256th of its value per step. The random numbers depend only on `steps`, so all ranks draw the same ones.

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
    """Returns a saved state with its bfloat16 tensors in the precision of their parameters; see `map_tensors`."""

    def widen(value: Tensor, parameter: Tensor) -> Tensor:
        is_narrow = value.dtype is torch.bfloat16 and _is_like_parameter(value, parameter)
        return value.to(parameter.dtype) if is_narrow else value

    return map_tensors(state, groups, widen)


def _is_like_parameter(value: Any, parameter: Tensor) -> bool:
    is_real = isinstance(value, Tensor) and value.is_floating_point()
    return is_real and value.dim() > 0 and value.shape == parameter.shape
