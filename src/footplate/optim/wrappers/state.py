"""An optimizer's state, whichever way it was grouped when it was saved."""

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
    """Notes in each group of `state` what its parameters are called."""
    for group, each in zip(state["param_groups"], names, strict=True):
        group["param_names"] = list(each)
    return state


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a running optimizer is grouped."""

    names: list[list[str]]
    """The names of the parameters of each group."""
    order: list[str]
    """The names of all parameters in the order of the model."""
    frozen: frozenset[str] = frozenset()
    """Those that are not trained; other engines leave them out at times."""

    def known(self, *, with_frozen: bool = True) -> list[str]:
        """Returns the names of the optimizer's parameters in the order of the model."""
        held = set(itertools.chain.from_iterable(self.names))
        return [name for name in self.order if name in held and (with_frozen or name not in self.frozen)]


def regrouped(saved: Mapping[str, Any], groups: Sequence[State], layout: Layout) -> State:
    """Returns `saved` in the grouping of a running optimizer.

    States are matched by the names that they hold. One without names that is grouped as the optimizer is, is taken as
    it stands; else its parameters count as in the order of the model, as a group per parameter or one group for all
    gives it.

    Args:
        saved: `state` and `param_groups` of some optimizer.
        groups: The running optimizer's groups.
        layout: Its layout.

    Raises:
        CheckpointError: The state belongs to other parameters.
    """
    places = _places(saved["param_groups"], layout)
    missing = [name for name in layout.known(with_frozen=False) if name not in places]
    if missing:
        raise CheckpointError(
            f"the saved optimizer state knows nothing of {len(missing)} parameters, '{missing[0]}' among them"
        )
    arranged = []
    for group, members in zip(groups, layout.names, strict=True):
        first = next((places[name] for name in members if name in places), None)
        source = {} if first is None else saved["param_groups"][first[0]]
        # Some optimizers make entries of a group at their first step; other engines add some that mean nothing here.
        is_ours = "param_names" in source
        kept = {key: value for key, value in source.items() if is_ours or key in group or key.startswith("initial_")}
        kept.pop("param_names", None)
        numbers = [places[name][1] if name in places else f"no state of {name}" for name in members]
        arranged.append({**group, **kept, "params": numbers})
    return {"state": saved["state"], "param_groups": arranged}


def placed(state: State, groups: Sequence[Mapping[str, Any]]) -> State:
    """Returns `state` with its tensors as the parameters that they belong to: whole, or in the same parts.

    Args:
        state: `state` and `param_groups`, grouped as the optimizer is.
        groups: The optimizer's groups.
    """
    pairs = zip(state["param_groups"], groups, strict=True)
    owners = {key: each for saved, own in pairs for key, each in zip(saved["params"], own["params"], strict=True)}
    held = [*owners.values(), *(each for values in state["state"].values() for each in values.values())]
    if not any(isinstance(each, torch.Tensor) and is_dtensor(each) for each in held):
        return state
    values = {
        key: {name: _placed_value(value, owners.get(key)) for name, value in values.items()}
        for key, values in sorted(state["state"].items(), key=lambda item: str(item[0]))
    }
    return {**state, "state": values}


def _placed_value(value: Any, owner: torch.Tensor | None) -> Any:
    if owner is None or not isinstance(value, torch.Tensor) or not value.dim():
        return value
    return distribute_like(value, owner)


def per_parameter(state: Mapping[str, Any], layout: Layout) -> State:
    """Returns `state` with one group for each parameter, in the order of the model, as other engines store it.

    Args:
        state: `state` and `param_groups` of the optimizer.
        layout: Its layout.
    """
    places = _places(state["param_groups"], layout)
    groups: list[State] = []
    values = {}
    for name in layout.known():
        source, index = places[name]
        fields = {k: v for k, v in state["param_groups"][source].items() if k not in ("params", "param_names")}
        if index in state["state"]:
            values[len(groups)] = state["state"][index]
        groups.append({**fields, "params": [len(groups)]})
    return {"state": values, "param_groups": groups}


def in_order(values: Sequence[Any], saved: Sequence[Sequence[str]], order: Iterable[str]) -> list[Any]:
    """Returns what belongs to saved parameters in another order of their names; None where one was not saved.

    Args:
        values: One a parameter.
        saved: The names of these parameters, in groups.
        order: The names in the order wanted.
    """
    by_name = dict(zip(itertools.chain.from_iterable(saved), values, strict=False))
    return [by_name.get(name) for name in order]


def _places(groups: Sequence[Mapping[str, Any]], layout: Layout) -> dict[str, tuple[int, Any]]:
    """Returns for each parameter's name the number of its saved group, and its number in the saved state."""
    return {
        name: (number, index)
        for number, (group, each) in enumerate(zip(groups, names_of(groups, layout), strict=True))
        for name, index in zip(each, group["params"], strict=True)
    }


def names_of(groups: Sequence[Mapping[str, Any]], layout: Layout) -> Sequence[Sequence[str]]:
    """Returns the names of the parameters of saved groups."""
    sizes = [len(group["params"]) for group in groups]
    if all(len(group.get("param_names", ())) == size for group, size in zip(groups, sizes, strict=True)):
        return [group["param_names"] for group in groups]
    if sizes == [len(each) for each in layout.names]:
        return layout.names
    even = len(sizes) == 1 or set(sizes) == {1}
    for candidates in (layout.known(), layout.known(with_frozen=False)):
        if even and sum(sizes) == len(candidates):
            names = iter(candidates)
            return [list(itertools.islice(names, size)) for size in sizes]
    raise CheckpointError(
        f"the saved optimizer state holds {pluralize(sum(sizes), 'parameter')} in {pluralize(len(sizes), 'group')}, "
        f"the optimizer {len(layout.known())} in {len(layout.names)}"
    )
