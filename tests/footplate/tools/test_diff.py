from typing import Any

import pytest

from footplate.config import Config, LazyObject
from footplate.tools.diff import compare, compare_runs


@pytest.mark.parametrize(
    ("first", "second", "differences"),
    [
        (dict(a=1, b=2), dict(b=2, a=1), []),
        (dict(a=(1, [2])), dict(a=[1.0, (2,)]), []),
        (dict(a=LazyObject("x.Y")), dict(a="x.Y"), []),
        (dict(a=dict(b=1)), dict(a=dict(b=2, c=3)), [("a.b", 1, 2), ("a.c", None, 3)]),
        (dict(a=[1, 2]), dict(a=[1, 3]), [("a", [1, 2], [1, 3])]),
        (
            dict(p=[dict(type="A", x=1), dict(type="C")]),
            dict(p=[dict(type="A", x=2), dict(type="B"), dict(type="C")]),
            [("p[0].x", 1, 2), ("p[1]", None, {"type": "B"})],
        ),
        ({"k": {"a.b": 1}}, {"k": {"a.b": 2}}, [("k.'a.b'", 1, 2)]),
    ],
)
def test_configs_are_compared_by_meaning(
    first: dict[str, Any], second: dict[str, Any], differences: list[tuple[str, Any, Any]]
) -> None:
    found = compare(Config(first), Config(second))
    assert [(path, one and one.value, two and two.value) for path, one, two in found] == differences


@pytest.mark.parametrize(
    ("second", "paths"),
    [
        (dict(lr=2, iterations=40, work_dir="b"), ["lr", "(code)"]),
        (dict(lr=1, iterations=40, work_dir="b"), ["iterations", "(code)"]),
        (dict(lr=1, iterations=20, resume=True, load_from="b"), ["(code)"]),
    ],
)
def test_settings_of_runs_that_change_nothing_are_left_out(second: dict[str, Any], paths: list[str]) -> None:
    configs = [Config(dict(lr=1, iterations=20, work_dir="a")), Config(second)]
    environments = [{"code": code, "config variables": ["iterations"]} for code in "ab"]
    assert [each.path for each in compare_runs(configs, environments)] == paths


@pytest.mark.parametrize("key", ["", "x[", "it's.a"])
def test_runs_are_compared_even_if_a_path_cannot_be_split(key: str) -> None:
    configs = [Config({"custom_keys": {key: rate}}) for rate in (1, 2)]
    assert [each.second.value for each in compare_runs(configs, [{}, {}]) if each.second] == [2]
