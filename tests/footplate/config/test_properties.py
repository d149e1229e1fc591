"""Laws of configs, on values of every kind."""

import copy
import keyword
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footplate.config import Config, ConfigDict
from footplate.config.formats import write_config
from footplate.error_context import join_path
from footplate.tools.overrides import apply_overrides

_RESERVED = {"filename", "text", "pretty_text", "env_variables", "custom_imports"}

names = st.from_regex(r"[a-z][a-z0-9_]{0,7}", fullmatch=True).filter(
    lambda name: name not in _RESERVED and not keyword.iskeyword(name)
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["{{ fileDirname }}", "{{$HOME:x}}", "{{_base_.a}}", "null", "1e-3", "yes", "2024-01-02", "<<", "1_0", "=", "~"]
)
numbers = st.integers() | st.floats()
scalars = st.none() | st.booleans() | numbers | texts


def trees(leaves: st.SearchStrategy[Any], *, tuples: bool, keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def extend(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        lists = st.lists(children, max_size=3)
        return lists | st.dictionaries(keys, children, max_size=3) | (lists.map(tuple) if tuples else lists)

    return st.recursive(leaves, extend, max_leaves=12)


any_keys = names | texts | st.integers() | st.none() | st.booleans()
values = trees(scalars | st.binary(max_size=4), tuples=True, keys=any_keys)
configs = st.dictionaries(names, values, max_size=5)
plain_texts = trees(scalars, tuples=False, keys=names | texts)
FORMS = {
    ".py": configs,
    ".yaml": st.dictionaries(names, values, max_size=5),
    ".json": st.dictionaries(names, plain_texts, max_size=5),
}


def equal(first: Any, second: Any) -> bool:
    """Compares with types, and takes nan for equal to nan."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        same_kind = isinstance(first, list) == isinstance(second, list) and len(first) == len(second)
        return same_kind and all(map(equal, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return first == second or (math.isnan(first) and math.isnan(second))
    return type(first) is type(second) and bool(first == second)


@pytest.mark.parametrize("suffix", FORMS)
@settings(max_examples=40)
@given(data=st.data())
def test_written_config_reads_back_equal(suffix: str, data: st.DataObject) -> None:
    mapping = data.draw(FORMS[suffix])
    assert equal(Config.fromstring(write_config(mapping, suffix), suffix).to_dict(), mapping)


def merged(base: Any, child: Any) -> Any:
    """Says in a few words what inheriting means."""
    if not isinstance(child, dict) or not isinstance(base, dict):
        return child
    if child.get("_delete_"):
        return {key: value for key, value in child.items() if key != "_delete_"}
    result = dict(base)
    for key, value in child.items():
        result[key] = merged(base[key], value) if key in base else value
    return result


def clashes(base: Any, child: Any) -> bool:
    """Tells whether a dict meets a value that is none."""
    if not isinstance(child, dict):
        return False
    if not isinstance(base, dict):
        return True
    return any(clashes(base[key], value) for key, value in child.items() if key in base)


@settings(max_examples=40)
@given(configs, configs)
def test_merging_follows_its_definition(base: dict[str, Any], child: dict[str, Any]) -> None:
    if clashes(base, child):
        return
    cfg = ConfigDict(copy.deepcopy(base))
    cfg.merge(child)
    assert equal(cfg.to_dict(), merged(base, child))


def leaves(value: Any, path: list[Any]) -> list[list[Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, [*path, key])]
    if isinstance(value, (list, tuple)) and value:
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, [*path, index])]
    return [path]


simple = trees(st.integers() | names, tuples=True, keys=names)


@settings(max_examples=40)
@given(st.dictionaries(names, simple, min_size=1, max_size=4), st.data())
def test_override_changes_one_leaf_only(mapping: dict[str, Any], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(leaves(mapping, [])))
    cfg = Config(copy.deepcopy(mapping))
    apply_overrides(cfg, [f"+{join_path(path)}=12345"])
    expected: Any = put(mapping, path, 12345)
    assert equal(cfg.to_dict(), expected)


def put(holder: Any, path: list[Any], value: Any) -> Any:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(holder, dict):
        return {key: put(item, rest, value) if key == first else item for key, item in holder.items()}
    return type(holder)([put(item, rest, value) if index == first else item for index, item in enumerate(holder)])
