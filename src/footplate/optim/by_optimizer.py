"""Converts per-optimizer values, such as schedules or states, between two layouts.

With several optimizers, the values are in a dict, keyed by optimizer name. A single optimizer's value is not in a dict.
These functions use the name "" for a single optimizer, as `OptimWrapper.parts` does, so that other code only has to
handle dicts.
"""

from collections.abc import Iterable, Mapping
from typing import Any


def by_optimizer(values: Any, names: Iterable[str]) -> dict[str, Any]:
    """Converts per-optimizer values to a dict, keyed by optimizer name. A single optimizer has the name ""."""
    return {name: values[name] if name else values for name in names}


def schedules_by_optimizer(schedules: Any) -> dict[str, Any]:
    """Returns a dict that maps optimizer names to schedule lists. The dict may omit optimizers without schedules."""
    return by_optimizer(schedules, schedules if isinstance(schedules, Mapping) else [""])


def single_or_by_name(values: Mapping[str, Any]) -> Any:
    """Returns the value itself for a single optimizer, and the dict otherwise. The inverse of `by_optimizer`."""
    return values.get("", values)
