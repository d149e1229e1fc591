"""Parameters with equal settings share one group."""

from collections.abc import Hashable, Iterable
from typing import Any

Group = dict[str, Any]


def merge_groups(groups: Iterable[Group]) -> list[Group]:
    """Joins groups whose settings are equal, in the order in which they first appear."""
    merged: dict[Hashable, Group] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        params = group["params"]
        params = [params] if not isinstance(params, (list, tuple)) else list(params)
        if not params:
            continue
        found = merged.setdefault(_key(settings), {"params": [], **settings})
        found["params"] += params
    return list(merged.values())


def _key(settings: Group) -> Hashable:
    return tuple(sorted((name, _hashable(value)) for name, value in settings.items()))


def _hashable(value: Any) -> Hashable:
    if isinstance(value, (list, tuple)):
        return tuple(_hashable(each) for each in value)
    return value if value is None or isinstance(value, (int, float, str)) else id(value)
