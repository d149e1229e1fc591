"""Converts optimizer states between different groupings of the parameters."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from footplate.distributed.sharding import distribute_like, is_dtensor
from footplate.errors import CheckpointError
from footplate.messages import pluralize

State = dict[str, Any]


def name_groups(state: State, names: Sequence[Sequence[str]]) -> State:
    """Adds the names of its parameters to each group of `state` as `param_names`."""
    for group, each in zip(state["param_groups"], names, strict=True):
        group["param_names"] = list(each)
    return state


@dataclasses.dataclass(frozen=True)
class Layout:
    """The grouping of the parameters of an optimizer."""

    names: list[list[str]]
    """The names of the parameters of each group."""
    order: list[str]
    """The names of all parameters of the model, in its order."""
    frozen: frozenset[str] = frozenset()
    """The names of frozen parameters; states of other engines may not contain them."""

    def parameter_names(self, *, with_frozen: bool = True) -> list[str]:
        """Returns the names of the parameters of the optimizer, in the order of the model."""
        grouped = set(itertools.chain.from_iterable(self.names))
        return [name for name in self.order if name in grouped and (with_frozen or name not in self.frozen)]


def regroup(saved: Mapping[str, Any], groups: Sequence[State], layout: Layout) -> State:
    """Converts a saved state to the grouping of an optimizer.

    Parameters are matched by `param_names`. A state without names is used as it is if it has the grouping of the
    optimizer. Otherwise it must have one group per parameter or a single group, in the order of the model.

    Args:
        saved: `state` and `param_groups` of the saved state.
        groups: The groups of the optimizer.
        layout: The layout of the optimizer.

    Raises:
        CheckpointError: The state belongs to other parameters.
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
    """Returns `state` with each tensor sharded like its parameter, or whole if its parameter is.

    Args:
        state: `state` and `param_groups`, in the grouping of the optimizer.
        groups: The groups of the optimizer.
    """
    pairs = zip(state["param_groups"], groups, strict=True)
    owners = {key: each for saved, own in pairs for key, each in zip(saved["params"], own["params"], strict=True)}
    tensors = [*owners.values(), *(each for values in state["state"].values() for each in values.values())]
    if not any(isinstance(each, torch.Tensor) and is_dtensor(each) for each in tensors):
        return state
    # Sorted, since sharding is a collective operation, which all ranks must call in the same order.
    values = {
        key: {name: _shard_like(value, owners.get(key)) for name, value in values.items()}
        for key, values in sorted(state["state"].items(), key=lambda item: str(item[0]))
    }
    return {**state, "state": values}


def _shard_like(value: Any, owner: torch.Tensor | None) -> Any:
    if owner is None or not isinstance(value, torch.Tensor) or not value.dim():
        return value
    return distribute_like(value, owner)


def split_groups(state: Mapping[str, Any], layout: Layout) -> State:
    """Returns `state` with one group per parameter in the order of the model, as other engines store it.

    Args:
        state: `state` and `param_groups` of the optimizer.
        layout: The layout of the optimizer.
    """
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
    """Returns the values of parameters in another order, with None for parameters that were not saved.

    Args:
        values: One value per saved parameter.
        saved: The names of the saved parameters, in groups.
        order: The names in the new order.
    """
    by_name = dict(zip(itertools.chain.from_iterable(saved), values, strict=False))
    return [by_name.get(name) for name in order]


def _locate_parameters(groups: Sequence[Mapping[str, Any]], layout: Layout) -> dict[str, tuple[int, Any]]:
    """Returns the index of the saved group and the key in the saved state by parameter name."""
    return {
        name: (number, index)
        for number, (group, names) in enumerate(zip(groups, saved_names(groups, layout), strict=True))
        for name, index in zip(names, group["params"], strict=True)
    }


def saved_names(groups: Sequence[Mapping[str, Any]], layout: Layout) -> Sequence[Sequence[str]]:
    """Returns the names of the parameters of each saved group.

    Raises:
        CheckpointError: The groups have no names, and another number of parameters than the optimizer.
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
