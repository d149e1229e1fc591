"""Converts between the two layouts of optimizer values, such as schedules or states.

A model with several optimizers has a dict with one value per name. A model with a single optimizer has only its value.
The functions here give such an optimizer the name "", as `OptimWrapper.parts` does, so that code handles only dicts.
"""

from collections.abc import Iterable, Mapping
from typing import Any


def by_optimizer(values: Any, names: Iterable[str]) -> dict[str, Any]:
    """Maps the names of optimizers to their values."""
    return {name: values[name] if name else values for name in names}


def schedules_by_optimizer(schedules: Any) -> dict[str, Any]:
    """Maps the names of optimizers to their lists of schedules. A dict of schedules may lack optimizers."""
    return by_optimizer(schedules, schedules if isinstance(schedules, Mapping) else [""])


def single_or_by_name(values: Mapping[str, Any]) -> Any:
    """Converts the result of `by_optimizer` back."""
    return values.get("", values)
