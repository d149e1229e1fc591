"""Wrong values for each leaf of a config, and what a check makes of them."""

import copy
import math
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from footplate.config import Config
from footplate.errors import FootplateError
from footplate.tools.check import check

WRONG: dict[str, Any] = {
    "string": "no",
    "empty": "",
    "negative": -1,
    "zero": 0,
    "fraction": 0.5,
    "large": 10**30,
    "nan": math.nan,
    "inf": math.inf,
    "none": None,
    "flag": True,
    "list": [],
    "numbers": [1, 2],
    "words": ["x"],
    "dict": {},
    "filled": {"x": 1},
}
_MOST_LINES = 8
# Sections whose values nothing reads before data are touched.
_IDLE = ("custom_imports",)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of each leaf, and of each dict and list on the way."""
    if path and path[0] not in _IDLE:
        yield path
    if isinstance(value, (Mapping, Config)):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from leaves(each, (*path, place))


def changed(cfg: Config, path: tuple[Any, ...], value: Any) -> Config:
    """Returns a copy of a config with another value at a path."""
    found = copy.deepcopy(cfg)
    here: Any = found
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = copy.deepcopy(value)
    return found


def failure(cfg: Config) -> str | None:
    """Returns the traceback of an error that does not tell of a mistake in the config; None where there is none.

    Args:
        cfg: The config, which is checked without data and weights.
    """
    try:
        check(cfg, run=False)
    except FootplateError as error:
        return None if len(str(error).splitlines()) <= _MOST_LINES else f"a long message: {error}"
    except Exception:
        return traceback.format_exc()
    return None
