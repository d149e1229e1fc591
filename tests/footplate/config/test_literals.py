from typing import Any

import pytest

from footplate.config.literals import parse_value
from footplate.errors import OverrideError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("inf", float("inf")),
        ("null", None),
        ('"x,y"', "x,y"),
        (r"""['blocks\.\d+', "a\\b"]""", [r"blocks\.\d+", r"a\b"]),
        ("", ""),
        ("https://host:80/a?b", "https://host:80/a?b"),
        ("1,2", [1, 2]),
        ("[a, b, (c, d)]", ["a", "b", ("c", "d")]),
        ("{a: 1, 'b': [x, {c: null}]}", {"a": 1, "b": ["x", {"c": None}]}),
        ("dict(type='SGD', lr=1e-2, betas=(0.9, 0.99))", {"type": "SGD", "lr": 0.01, "betas": (0.9, 0.99)}),
        ("poly(1,2)", "poly(1,2)"),
    ],
)
def test_values_are_parsed(text: str, value: Any) -> None:
    read = parse_value(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["[1,2", "{a", "{a:}", "dict(a)", "[,]", "[1](2", "'1", "[" * 10000, "{[1]: 2}", "[s3://a, b]", "[a b]"]
)
def test_invalid_values_are_refused(text: str) -> None:
    with pytest.raises(OverrideError, match="cannot read the value"):
        parse_value(text)
