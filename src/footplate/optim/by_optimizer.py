"""Converts values that belong to optimizers, such as schedules or states, between their two layouts.

With several optimizers, the values are a dict by optimizer name. With a single optimizer, there is only the value
itself. Here, a single optimizer has the name "", as in `OptimWrapper.parts`, so that other code handles only dicts.
"""

from collections.abc import Iterable, Mapping
from typing import Any


def by_optimizer(values: Any, names: Iterable[str]) -> dict[str, Any]:
    """Returns a dict of the values by optimizer name."""
    return {name: values[name] if name else values for name in names}


def schedules_by_optimizer(schedules: Any) -> dict[str, Any]:
    """Returns a dict of schedule lists by optimizer name. Optimizers without schedules may be missing."""
    return by_optimizer(schedules, schedules if isinstance(schedules, Mapping) else [""])


def single_or_by_name(values: Mapping[str, Any]) -> Any:
    """Reverses `by_optimizer`: returns the value of a single optimizer, or the dict."""
    return values.get("", values)
