"""Matches a saved optimizer state with the optimizer's parameters."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, Optimizer, RAdam, RMSprop

from footplate.distributed.sharding import distribute_like
from footplate.error_context import WEIGHTS_ALONE
from footplate.errors import CheckpointError
from footplate.messages import pluralize
from footplate.optim.lars import LARS
from footplate.optim.muon import Muon

State = dict[str, Any]
_SUPPORTED = (SGD, Adam, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, LARS, Muon)
_OWN_KEYS = ("params", "param_names", "added_with_grad")  # keys of a saved group that are not settings


class Layout(NamedTuple):
    """The parameters of an optimizer, with their names."""

    groups: list[dict[str, Tensor]]
    """The parameters of each group, keyed by name."""
    parameters: dict[str, Tensor]
    """All parameters, keyed by name, in the order of the model."""
    is_named: bool
    """Whether the names come from the model. If not, parameters are matched by their order."""


class SavedParameter(NamedTuple):
    """A parameter in a saved state."""

    settings: State
    """The settings of its group."""
    values: Mapping[str, Any]
    """Its optimizer state, e.g. the momentum."""


def layout_of(optimizer: Optimizer, names: Mapping[int, str]) -> Layout:
    """Returns the layout of an optimizer. `names` maps the id of each model parameter to its name."""
    groups: list[dict[str, Tensor]] = []
    by_name: dict[str, Tensor] = {}
    for number, group in enumerate(optimizer.param_groups):
        named = {}
        for index, parameter in enumerate(group["params"]):
            # A hook may have added a group with parameters that were not in the model when names were stored.
            named[names.get(id(parameter), f"param_groups.{number}.{index}")] = parameter
        groups.append(named)
        by_name |= named
    order = dict.fromkeys([*names.values(), *by_name])
    return Layout(groups, {name: by_name[name] for name in order if name in by_name}, bool(names))


def regroup(saved: Mapping[str, Any], optimizer: Optimizer, layout: Layout) -> State:
    """Converts a saved state to match an optimizer's parameter groups and sharding.

    Parameters are matched by `param_names`. A state without names must have the same groups as the optimizer, one group
    per parameter, or a single group. With one group per parameter or a single group, parameters must be in model order,
    and frozen parameters may be missing.

    Raises:
        CheckpointError: The state belongs to different parameters.
    """
    saved_parameters = _by_name(saved, layout)
    missing = [name for name in _trainable(layout) if name not in saved_parameters]
    if missing:
        raise CheckpointError(
            f"the saved optimizer state is missing {pluralize(len(missing), 'parameter')}, such as '{missing[0]}'",
            notes=["Freeze the parameters that were frozen in the saved run.", WEIGHTS_ALONE],
        )
    state: dict[int, State] = {}
    groups: list[State] = []
    first = 0  # the key of the group's first parameter
    for group, parameters in zip(optimizer.param_groups, layout.groups, strict=True):
        settings = next((saved_parameters[name].settings for name in parameters if name in saved_parameters), {})
        for key, (name, parameter) in enumerate(parameters.items(), first):
            values = saved_parameters[name].values if name in saved_parameters else {}
            for field, value in values.items():
                if isinstance(value, Tensor) and value.dim():
                    if isinstance(optimizer, _SUPPORTED) and value.shape != parameter.shape:
                        shape = list(parameter.shape)
                        message = f"the saved optimizer state of '{name}' does not match the parameter's shape {shape}"
                        raise CheckpointError(message, found=list(value.shape))
                    value = distribute_like(value, parameter)
                state.setdefault(key, {})[field] = value
        groups.append({**group, **settings, "params": [*range(first, first + len(parameters))]})
        first += len(parameters)
    return {"state": state, "param_groups": groups}


def _by_name(state: Mapping[str, Any], layout: Layout) -> dict[str, SavedParameter]:
    """Returns the parameters of a saved state, keyed by name."""
    result = {}
    for group, names in zip(state["param_groups"], saved_names(state["param_groups"], layout), strict=True):
        settings = {key: value for key, value in group.items() if key not in _OWN_KEYS}
        for name, key in zip(names, group["params"], strict=True):
            result[name] = SavedParameter(settings, state["state"].get(key, {}))
    return result


def saved_names(groups: Sequence[Mapping[str, Any]], layout: Layout) -> list[list[str]]:
    """Returns the parameter names of each saved group.

    Raises:
        CheckpointError: The groups have no names, and their parameter counts do not match the optimizer's.
    """
    sizes = [len(group["params"]) for group in groups]
    names_of = [list(group.get("param_names", ())) for group in groups]
    if layout.is_named and list(map(len, names_of)) == sizes:
        return names_of
    if sizes == list(map(len, layout.groups)):
        return [list(group) for group in layout.groups]
    even = len(sizes) == 1 or set(sizes) == {1}
    for candidates in ([*layout.parameters], _trainable(layout)):
        if even and sum(sizes) == len(candidates):
            names = iter(candidates)
            return [list(itertools.islice(names, size)) for size in sizes]
    raise CheckpointError(
        f"the numbers of parameters in the optimizer's groups, {[*map(len, layout.groups)]}, differ from the saved "
        f"ones, {sizes}"
    )


def _trainable(layout: Layout) -> list[str]:
    return [name for name, parameter in layout.parameters.items() if parameter.requires_grad]
