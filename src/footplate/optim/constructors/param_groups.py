"""Merges parameter groups and removes duplicate parameters."""

import logging
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

from torch import nn

_logger = logging.getLogger("footplate.optim")

Group = dict[str, Any]


def parameters_of(group: Group) -> Sequence[nn.Parameter]:
    """Returns the parameters of a group as a sequence, also if `params` is a single parameter."""
    params = group["params"]
    return params if isinstance(params, (list, tuple)) else [params]


def merge_groups(groups: Iterable[Group]) -> list[Group]:
    """Merges groups with equal settings, in the order of their first appearance; empty groups are dropped."""
    merged: dict[Hashable, Group] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        params = parameters_of(group)
        if params:
            key = tuple(sorted((name, _hashable(value)) for name, value in settings.items()))
            merged.setdefault(key, {"params": [], **settings})["params"] += params
    return list(merged.values())


def drop_duplicates(groups: Iterable[Group], *, warn: bool) -> Iterator[Group]:
    """Yields the groups without parameters that an earlier group contains.

    Args:
        groups: The groups.
        warn: Whether to warn about parameters that occur with different settings.
    """
    settings_of: dict[int, Group] = {}
    differing = 0
    for group in groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        params = parameters_of(group)
        new = [each for each in params if id(each) not in settings_of]
        differing += sum(settings_of.get(id(each), settings) != settings for each in params)
        settings_of.update((id(each), settings) for each in new)
        if new:
            yield {**settings, "params": new}
    if differing and warn:
        _logger.warning(
            "%d shared parameters have different settings under their names; those of the first name are used",
            differing,
        )


def _hashable(value: Any) -> Hashable:
    if isinstance(value, (list, tuple)):
        return tuple(_hashable(each) for each in value)
    return value if value is None or isinstance(value, (int, float, str)) else id(value)
