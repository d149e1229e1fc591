"""Laws of configs, on values of every kind."""

import contextlib
import copy
import keyword
import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footplate.config import Config, ConfigDict, apply_overrides
from footplate.config.formats import write_config
from footplate.config.key_paths import join_path
from footplate.config.overrides import parse_value
from footplate.error_context import origin_of
from footplate.errors import OverrideError

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
toml_trees = trees(st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | texts, tuples=False, keys=texts)
FORMS = {
    ".py": configs,
    ".yaml": st.dictionaries(names, values, max_size=5),
    ".json": st.dictionaries(names, plain_texts, max_size=5),
    ".toml": st.dictionaries(names, toml_trees, max_size=5),
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
@settings(max_examples=80)
@given(data=st.data())
def test_written_config_reads_back_equal(suffix: str, data: st.DataObject) -> None:
    mapping = data.draw(FORMS[suffix])
    assert equal(Config.fromstring(write_config(mapping, suffix), suffix).to_dict(), mapping)


@given(configs)
def test_copies_and_pickles_are_equal_and_apart(mapping: dict[str, Any]) -> None:
    cfg = Config(mapping)
    for other in (copy.deepcopy(cfg), pickle.loads(pickle.dumps(cfg)), Config(cfg)):
        assert equal(other.to_dict(), mapping)
        other["added"] = 1
        assert "added" not in cfg or "added" in mapping


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


@given(configs, configs)
def test_merging_follows_its_definition(base: dict[str, Any], child: dict[str, Any]) -> None:
    if clashes(base, child):
        return
    cfg = ConfigDict(copy.deepcopy(base))
    cfg.merge(child)
    assert equal(cfg.to_dict(), merged(base, child))


@given(configs, names, st.dictionaries(names, scalars, max_size=3))
def test_delete_replaces_the_value(base: dict[str, Any], name: str, new: dict[str, Any]) -> None:
    base = {**base, name: base.get(name, {"old": 1})}
    text = write_config(base, ".py")
    cfg = Config.fromstring(text, ".py")
    cfg.merge_from_dict({name: {**new, "_delete_": True}})
    assert equal(cfg.to_dict(), {**base, name: new})


def leaves(value: Any, path: list[Any]) -> list[list[Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, [*path, key])]
    if isinstance(value, (list, tuple)) and value:
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, [*path, index])]
    return [path]


simple = trees(st.integers() | names, tuples=True, keys=names)


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


quiet = (
    st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.none()
    | names.filter(lambda n: n not in ("inf", "nan", "null", "true", "false"))
)


@given(trees(quiet, tuples=True, keys=names))
def test_values_are_read_as_python_writes_them(value: Any) -> None:
    assert equal(parse_value(repr(value)), value)


@given(st.text(max_size=40))
def test_any_text_is_read_or_raises_override_error(text: str) -> None:
    value: Any = None
    with contextlib.suppress(OverrideError):
        value = parse_value(text)
    assert value is None or isinstance(value, (bool, int, float, str, list, tuple, dict))


@given(st.lists(names, min_size=1, max_size=6, unique=True))
def test_every_key_has_the_line_it_was_written_in(keys: list[str]) -> None:
    cfg = Config.fromstring("".join(f"{key} = dict(\n    x={number})\n" for number, key in enumerate(keys)), ".py")
    for number, key in enumerate(keys):
        places = [origin_of(cfg, key), origin_of(cfg[key], "x")]
        assert [place.line for place in places if place] == [2 * number + 1, 2 * number + 2]
