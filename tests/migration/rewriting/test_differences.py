import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footplate.config import Config, ConfigDict
from footplate.migration.rewriting.differences import difference, differing_keys, same


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
def test_values_are_compared_with_their_kind(first: Any, second: Any, equal: bool) -> None:
    assert same(first, second) is equal


def test_what_is_written_is_little() -> None:
    inherited = {"a": {"b": 1, "c": {"d": 2}}, "gone": 1, "kept": [1]}
    wanted = {"a": {"b": 1, "c": {"d": 3}}, "kept": [1], "new": (1,)}
    assert difference(inherited, wanted, ["a", "gone", "kept", "new"]) == {
        "a": {"c": {"d": 3}},
        "gone": None,
        "new": (1,),
    }


def test_what_has_to_go_is_deleted() -> None:
    assert difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, ["a"]) == {"a": {"_delete_": True, "b": 1}}


def test_none_and_absent_are_alike() -> None:
    assert differing_keys({"a": None, "b": 1}, {"b": 2, "c": None}) == ["b"]


VALUES = st.recursive(
    st.one_of(st.integers(0, 3), st.booleans(), st.text("ab", max_size=1), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES, max_size=3)


@given(CONFIGS, CONFIGS)
def test_written_on_top_it_gives_what_is_wanted(inherited: dict[str, Any], wanted: dict[str, Any]) -> None:
    said = difference(inherited, wanted, ["x", "y", "z"])
    merged = ConfigDict(copy.deepcopy(inherited))
    merged.merge(said)
    assert not differing_keys(Config(merged).to_dict(), wanted)
