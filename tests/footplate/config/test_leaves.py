"""A wrong value at any leaf of a config raises a FootplateError, or is no mistake."""

import copy
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from footplate.config import Config
from footplate.config.sources import find_config
from footplate.errors import FootplateError
from footplate.tools.check import check

WRONG = ["no", "", -1, 0, 0.5, 10**30, math.nan, math.inf, None, True, [], [1, 2], ["x"], {}, {"x": 1}]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of each leaf, and of each dict and list on the way."""
    if path:
        yield path
    if isinstance(value, (Mapping, Config)):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))


@pytest.mark.parametrize("name", ["fashion-det", "fashion-mae"])
def test_wrong_values_in_a_recipe(name: str) -> None:
    cfg = Config.fromfile(find_config(name))
    cfg["work_dir"] = "work"
    cases = [(path, value) for path in leaves(cfg) for value in WRONG]
    refused = 0
    for path, value in random.Random(0).sample(cases, 40):
        changed = copy.deepcopy(cfg)
        holder: Any = changed
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = copy.deepcopy(value)
        try:
            check(changed, run=False)
        except FootplateError:
            refused += 1
    assert refused >= 10
