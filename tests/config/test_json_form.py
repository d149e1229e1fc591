import re
from typing import Any

import pytest

from footplate.config.forms import read_form
from footplate.error_context import origin_of
from footplate.errors import ConfigSyntaxError, Origin


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ('{\n"a": 1,\n"a": 2}', "the key 'a' stands twice in one object, first in line 2", 3),
        ('{"a": 1,\n}', "expected an item between ',' and '}'", 2),
        ('{"a": 1}\n2', "expected the end of the text", 2),
        ('{"a"\n1}', "expected ':' after the key", 2),
        ('{"a": [1\n2]}', "expected ',' or ']'", 2),
        ("{a: 1}", "expected a key in double quotes", 1),
        ('{"a": b}', "expected a value, not the word 'b'", 1),
        ('{"a": \n}', "expected a value", 2),
        ('{"a": "x', "unterminated string", 1),
        ("", "expected a value", 1),
        ("[1]", "a config maps keys to values", 1),
        ('{"a": ' + "9" * 5000 + "}", "a number is too long", 1),
    ],
)
def test_wrong_texts_name_the_line(text: str, message: str, line: int) -> None:
    with pytest.raises(ConfigSyntaxError, match="(?i)" + re.escape(message)) as caught:
        read_form(text, "main.json", ".json")
    assert caught.value.origin == Origin("main.json", line)
    assert len(str(caught.value).splitlines()) <= 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5, 1e3, "\\u00fc", null, true]}', {"a": [1, -2.5, 1000.0, "ü", None, True]}),
        ('{"a": {}, "b": [ ], "c": Infinity}', {"a": {}, "b": [], "c": float("inf")}),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert read_form(text, "main.json", ".json") == value


def test_every_key_has_its_line() -> None:
    value = read_form('{\n"a":\n 1, "b": {\n\n"c": 2}}', "main.json", ".json")
    places = [origin_of(value, "a"), origin_of(value, "b"), origin_of(value["b"]), origin_of(value["b"], "c")]
    assert [place.line for place in places if place] == [2, 3, 3, 5]
