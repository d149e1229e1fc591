import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footplate.config import Config, ConfigDict
from footplate.openmmlab.first_generation.rewriting.plan import (
    config_difference,
    differing_keys,
    is_identical,
)


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (1, 1, True),
        (1, True, False),
        (1, 1.0, False),
        ((1,), [1], False),
        ([1, (2,)], [1, (2,)], True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (float("nan"), float("nan"), True),
        (None, None, True),
    ],
)
def test_is_identical_compares_types(first: Any, second: Any, equal: bool) -> None:
    assert is_identical(first, second) is equal


def test_difference_is_minimal() -> None:
    inherited = {"a": {"b": 1, "c": {"d": 2}}, "gone": 1, "kept": [1]}
    expected = {"a": {"b": 1, "c": {"d": 3}}, "kept": [1], "new": (1,)}
    assert config_difference(inherited, expected, ["a", "gone", "kept", "new"]) == {
        "a": {"c": {"d": 3}},
        "gone": None,
        "new": (1,),
    }


def test_removed_keys_are_written_as_delete() -> None:
    assert config_difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, ["a"]) == {"a": {"_delete_": True, "b": 1}}


VALUES = st.recursive(
    st.one_of(st.integers(0, 3), st.booleans(), st.text("ab", max_size=1), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES, max_size=3)


@given(CONFIGS, CONFIGS)
def test_difference_on_top_of_bases_resolves_to_expected(inherited: dict[str, Any], expected: dict[str, Any]) -> None:
    difference = config_difference(inherited, expected, ["x", "y", "z"])
    merged = ConfigDict(copy.deepcopy(inherited))
    merged.merge(difference)
    assert not differing_keys(Config(merged).to_dict(), expected)
