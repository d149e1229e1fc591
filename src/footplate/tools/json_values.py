"""Converts Python values to values that JSON can represent."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any


def as_json(value: Any, text: Callable[[str], str] = str, digits: int | None = None) -> Any:
    """Converts a value to a JSON-serializable value.

    Dataclasses and named tuples become objects, tensors and arrays become lists, NaN and infinite numbers become null,
    and values of other types become strings. `text` is applied to each string.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(type(value), "tolist"):  # looks up the type, since the value may be a class or an imported object
        value = value.tolist()
    if isinstance(value, Mapping) or hasattr(type(value), "metainfo"):  # a dict or a data element
        return {text(str(key)): as_json(item, text, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(item, text, digits) for item in value]
    if isinstance(value, float):
        return None if not math.isfinite(value) else value if digits is None else round(value, digits)
    return value if value is None or isinstance(value, int) else text(str(value))
