"""An optimizer's state, whichever way it was grouped when it was saved."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from footplate.errors import CheckpointError

State = dict[str, Any]


def name_groups(state: State, names: Sequence[Sequence[str]]) -> State:
    """Notes in each group of `state` what its parameters are called."""
    for group, each in zip(state["param_groups"], names, strict=True):
        group["param_names"] = list(each)
    return state


def regrouped(
    saved: Mapping[str, Any], groups: Sequence[State], names: Sequence[Sequence[str]], order: Sequence[str]
) -> State:
    """Returns `saved` in the grouping of a running optimizer.

    States are matched by the names that they hold. One without names that is grouped as the optimizer is, is taken as
    it stands; else its parameters count as in the order of the model, as a group per parameter or one group for all
    gives it.

    Args:
        saved: `state` and `param_groups` of some optimizer.
        groups: The running optimizer's groups.
        names: The names of their parameters.
        order: The names of all parameters in the order of the model.

    Raises:
        CheckpointError: The state belongs to other parameters.
    """
    saved_groups = saved["param_groups"]
    places = _places(saved_groups, names, order)
    missing = [name for name in itertools.chain.from_iterable(names) if name not in places]
    if missing:
        raise CheckpointError(
            f"the saved optimizer state knows nothing of {len(missing)} parameters, '{missing[0]}' among them"
        )
    arranged = []
    for group, members in zip(groups, names, strict=True):
        source = saved_groups[places[members[0]][0]] if members else {}
        kept = {key: value for key, value in source.items() if key in group or key.startswith("initial_")}
        arranged.append({**group, **kept, "params": [places[name][1] for name in members]})
    return {"state": saved["state"], "param_groups": arranged}


def per_parameter(state: Mapping[str, Any], names: Sequence[Sequence[str]], order: Sequence[str]) -> State:
    """Returns `state` with one group for each parameter, in the order of the model, as other engines store it.

    Args:
        state: `state` and `param_groups` of an optimizer.
        names: The names of the parameters of its groups.
        order: The names of all parameters in the order of the model.
    """
    places = _places(state["param_groups"], names, order)
    groups: list[State] = []
    values = {}
    for name in order:
        if name not in places:
            continue
        source, index = places[name]
        fields = {k: v for k, v in state["param_groups"][source].items() if k not in ("params", "param_names")}
        if index in state["state"]:
            values[len(groups)] = state["state"][index]
        groups.append({**fields, "params": [len(groups)]})
    return {"state": values, "param_groups": groups}


def _places(
    groups: Sequence[Mapping[str, Any]], names: Sequence[Sequence[str]], order: Sequence[str]
) -> dict[str, tuple[int, Any]]:
    """Returns for each parameter's name the number of its saved group, and its number in the saved state."""
    sizes = [len(group["params"]) for group in groups]
    if all(len(group.get("param_names", ())) == size for group, size in zip(groups, sizes, strict=True)):
        named = [group["param_names"] for group in groups]
    elif sizes == [len(each) for each in names]:
        named = [list(each) for each in names]
    else:
        known = set(itertools.chain.from_iterable(names))
        in_order = iter([name for name in order if name in known])
        if sum(sizes) != len(known) or (len(sizes) > 1 and max(sizes) > 1):
            raise CheckpointError(
                f"the saved optimizer state holds {sum(sizes)} parameters in {len(sizes)} groups, "
                f"the optimizer {len(known)} in {len(names)}"
            )
        named = [list(itertools.islice(in_order, size)) for size in sizes]
    return {
        name: (number, index)
        for number, (group, each) in enumerate(zip(groups, named, strict=True))
        for name, index in zip(each, group["params"], strict=True)
    }
