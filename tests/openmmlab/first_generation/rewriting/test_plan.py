import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from footplate.config import Config, ConfigDict
from footplate.openmmlab.first_generation.rewriting.plan import (
    config_difference,
    differing_keys,
)


def test_difference_is_minimal() -> None:
    inherited = {"a": {"b": 1, "c": {"d": 2}}, "gone": 1, "kept": [1]}
    expected = {"a": {"b": 1, "c": {"d": 3}}, "kept": [1], "new": (1,)}
    assert config_difference(inherited, expected, ["a", "gone", "kept", "new"]) == {
        "a": {"c": {"d": 3}},
        "gone": None,
        "new": (1,),
    }


VALUES = st.recursive(
    st.one_of(st.integers(0, 3), st.booleans(), st.text("ab", max_size=1), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES, max_size=3)


@settings(max_examples=30)
@given(CONFIGS, CONFIGS)
def test_difference_on_top_of_bases_resolves_to_expected(inherited: dict[str, Any], expected: dict[str, Any]) -> None:
    difference = config_difference(inherited, expected, ["x", "y", "z"])
    merged = ConfigDict(copy.deepcopy(inherited))
    merged.merge(difference)
    assert not differing_keys(Config(merged).to_dict(), expected)
