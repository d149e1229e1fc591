from typing import Any

import pytest

from footplate.config.values import read_value
from footplate.errors import OverrideError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1_000", -1000),
        ("0x10", 16),
        ("1.5", 1.5),
        ("1e-3", 0.001),
        ("-.5", -0.5),
        (".inf", float("inf")),
        ("true", True),
        ("False", False),
        ("None", None),
        ("null", None),
        ("~", None),
        ("none", "none"),
        ("abc", "abc"),
        ("'1'", "1"),
        ('"x,y"', "x,y"),
        ("'it\\'s\\n'", "it's\n"),
        ("it's", "it's"),
        ("", ""),
        ("b=c", "b=c"),
        ("https://host:80/a?b", "https://host:80/a?b"),
        ("1,2", [1, 2]),
        ("x,", ["x"]),
        ("[]", []),
        ("()", ()),
        ("(1)", 1),
        ("(1,)", (1,)),
        ("[a, b, (c, d)]", ["a", "b", ("c", "d")]),
        ("{a: 1, 'b': [x, {c: null}]}", {"a": 1, "b": ["x", {"c": None}]}),
        ("{0: x, (1, 2): y}", {0: "x", (1, 2): "y"}),
        ("dict(type='SGD', lr=1e-2, betas=(0.9, 0.99))", {"type": "SGD", "lr": 0.01, "betas": (0.9, 0.99)}),
        ("{}", {}),
        ("dict()", {}),
        ("poly(1,2)", "poly(1,2)"),
        ("1" * 5000, "1" * 5000),
    ],
)
def test_values_read_as_people_write_them(text: str, value: Any) -> None:
    read = read_value(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1,2", "']' is missing"),
        ("[[1]", "']' is missing"),
        ("{a", "expected `key: value`"),
        ("{a:}", "expected a value after 'a:'"),
        ("dict(a)", "expected `key= value`"),
        ("[,]", "expected a value"),
        ("[1](2", "expected a comma"),
        ("x(1", "a bracket is not closed"),
        ("[" * 10000, "nested too deeply"),
        ("{[1]: 2}", "expected `key: value`"),
    ],
)
def test_values_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(OverrideError, match="cannot read the value") as caught:
        read_value(text)
    assert message in caught.value.message
