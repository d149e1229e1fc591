"""The state of an optimizer: matches a saved state to the parameters, checks it, and keeps it in bfloat16."""

import dataclasses
import inspect
import itertools
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, Optimizer, RAdam, RMSprop

from footplate.checks import check_choice, check_saved_number
from footplate.distributed import tensor_parallel_size
from footplate.distributed.sharding import distribute_like, is_dtensor, is_split_layer, local_tensor
from footplate.errors import ArgumentError, CheckpointError
from footplate.messages import pluralize
from footplate.optim.lars_lamb import LAMB, LARS
from footplate.optim.muon import Muon

State = dict[str, Any]
_SUPPORTED = (SGD, Adam, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, LAMB, LARS, Muon)
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
    """Checks the shapes, types and settings of a saved state, which has the grouping of the optimizer.

    For torch optimizers, a trial step is run for each parameter on the meta device. For other optimizers, only the
    settings are checked.

    Raises:
        CheckpointError: The optimizer cannot use the state.
    """
    for number, (saved, own) in enumerate(zip(state["param_groups"], optimizer.param_groups, strict=True)):
        for key, value in saved.items():
            if key in ("params", "param_names"):
                continue
            # A setting that the optimizer lacks is compared with a number if it is one.
            is_number = isinstance(value, (int, float, torch.Tensor)) and not isinstance(value, bool)
            if not _is_like(value, 0.0 if key.startswith("initial_") else own.get(key, 0.0 if is_number else value)):
                setting = f"'param_groups[{number}].{key}' of the optimizer"
                raise CheckpointError(
                    f"the saved setting {setting} has the wrong type or is out of bounds", found=value
                )
        if not type(optimizer).__module__.startswith("torch.optim"):
            continue
        # A constructor that rejects even the current settings cannot be used for checks.
        error = None if _construction_error(optimizer, own) else _construction_error(optimizer, saved)
        if error is not None:
            message = f"the saved settings of group {number} of the optimizer are wrong: {error}"
            raise CheckpointError(message) from error
        if not own["params"] or not _steps(optimizer, own, own["params"][0], {}):  # some settings do not support "meta"
            continue
        settings = {**own, **saved, **{key: own[key] for key in _IMPLEMENTATION if key in own}}
        for name, parameter in zip(saved["params"], own["params"], strict=True):
            problem, found = _state_problem(optimizer, settings, parameter, state["state"].get(name))
            if problem:
                where = f"the saved state of parameter {name} of the optimizer, in group {number},"
                raise CheckpointError(f"{where} {problem}", found=found)


def _is_like(value: Any, own: Any) -> bool:
    """Checks whether a saved setting has the type of the current one, and is finite if it is a number."""
    if isinstance(own, (tuple, list)):
        is_pair = isinstance(value, (tuple, list)) and len(value) == len(own)
        # Adafactor takes None or a number as the first `eps`.
        return is_pair and all(each is None or _is_like(each, other) for each, other in zip(value, own, strict=True))
    if own is None or isinstance(own, bool):
        return value is None or isinstance(value, bool) or (own is None and isinstance(value, (int, float)))
    if not isinstance(own, (int, float, torch.Tensor)):
        return not isinstance(own, str) or isinstance(value, str)
    if isinstance(own, float) and isinstance(value, float) and value == own:
        return True  # some optimizers use infinity for no limit
    is_one = isinstance(value, torch.Tensor) and value.numel() == 1 and value.is_floating_point()
    try:
        check_saved_number(value.item() if is_one else value, "")
    except ValueError:
        return False
    return True


def _construction_error(optimizer: Optimizer, settings: Mapping[str, Any]) -> Exception | None:
    """Returns the exception that the constructor of the optimizer raises for the settings of a group, if any."""
    known = inspect.signature(type(optimizer)).parameters
    chosen = {key: settings[key] for key in known if key in settings and key not in ("params", "lr")}
    rate = settings.get("lr", 0.0)
    try:
        type(optimizer)([torch.nn.Parameter(torch.zeros(1, 1))], lr=float(rate), **chosen)  # type: ignore[call-arg]
    except Exception as error:  # constructors may raise any exception
        return error
    return None


def _state_problem(
    optimizer: Optimizer, settings: Mapping[str, Any], parameter: torch.Tensor, values: Any
) -> tuple[str, Any]:
    """Describes why the saved state of a parameter is unusable, with the value found. Returns "" if it is usable."""
    if values is None:  # nothing was saved for this parameter
        return "", None
    if not isinstance(values, Mapping):
        return "is not a dict", type(values).__name__
    tensors = {key: value for key, value in values.items() if isinstance(value, torch.Tensor)}
    for key, value in values.items():
        number = value
        if key in tensors and value.numel() == 1 and not value.is_complex():
            number = value.item()
        elif key in tensors:
            is_complex = value.is_complex()
            if is_complex != parameter.is_complex() or not (is_complex or value.is_floating_point()):
                return f"has a tensor of the wrong dtype: '{key}'", value.dtype
        # Refuses NaN as well, and integers that do not fit a float.
        least = 0 if key == "step" else -sys.float_info.max
        if isinstance(number, (int, float)) and not least <= number <= sys.float_info.max:
            return f"has a number out of bounds: '{key}'", number
    if not _steps(optimizer, settings, parameter, values):
        shapes = {key: list(each.shape) for key, each in tensors.items()}
        return f"does not fit a parameter of shape {list(parameter.shape)}", shapes or list(values)
    return "", None


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
    trial = object.__new__(type(optimizer))
    vars(trial).update(vars(optimizer))
    trial._optimizer_step_pre_hooks, trial._optimizer_step_post_hooks = OrderedDict(), OrderedDict()
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
