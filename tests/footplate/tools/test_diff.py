from typing import Any

import pytest

from footplate.config import Config, LazyObject
from footplate.tools.diff import compare


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
