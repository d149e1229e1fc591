import re
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.config.formats import read_data
from footplate.error_context import origin_of
from footplate.errors import ConfigSyntaxError, Origin


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ('{\n"a": 1,\n"a": 2}', "the key 'a' occurs twice in one object, first on line 2", 3),
        ('{"a": 1\n"b": 2}', "expecting ',' delimiter", 2),
        ('{"a": 1}\n2', "extra data", 2),
        ('{"a"\n1}', "expecting ':' delimiter", 2),
        ('{"a": [1\n2]}', "expecting ',' delimiter", 2),
        ("{a: 1}", "expecting property name enclosed in double quotes", 1),
        ('{"a": b}', "expecting value", 1),
        ('{"a": \n}', "expecting value", 2),
        ('{"a": "x', "unterminated string", 1),
        ("", "expecting value", 1),
        ("[1]", "a config must be a mapping of keys to values", 1),
        ('{"a": ' + "9" * 5000 + "}", "a number is too long", 1),
    ],
)
def test_invalid_json_reports_the_line(text: str, message: str, line: int) -> None:
    with pytest.raises(ConfigSyntaxError, match="(?i)" + re.escape(message)) as caught:
        read_data(text, "main.json", ".json")
    assert caught.value.origin == Origin("main.json", line)
    assert len(str(caught.value).splitlines()) <= 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5, 1e3, "\\u00fc", null, true]}', {"a": [1, -2.5, 1000.0, "ü", None, True]}),
        ('{"a": {}, "b": [ ], "c": Infinity}', {"a": {}, "b": [], "c": float("inf")}),
    ],
)
def test_json_values(text: str, value: Any) -> None:
    assert read_data(text, "main.json", ".json") == value


def test_every_json_key_has_its_line() -> None:
    value = read_data('{\n"a":\n 1, "b": {\n\n"c": 2}}', "main.json", ".json")
    places = [origin_of(value, "a"), origin_of(value, "b"), origin_of(value["b"]), origin_of(value["b"], "c")]
    assert [place.line for place in places if place] == [2, 3, 3, 5]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a = 1\na = 2", "Cannot overwrite a value", 2),
        ("a = \n", "Invalid value", 1),
        ("a = 1\n[b", "Expected ']'", 2),
    ],
)
def test_invalid_toml_reports_the_line(text: str, message: str, line: int) -> None:
    with pytest.raises(ConfigSyntaxError, match="(?i)" + re.escape(message)) as caught:
        read_data(text, "main.toml", ".toml")
    assert caught.value.origin == Origin("main.toml", line)
    assert len(str(caught.value).splitlines()) <= 5


def test_every_toml_key_has_its_line() -> None:
    text = """\
"quoted key" = 1
a.b.'c d' = { x = 1, y = [ { z = 2 },
    { z = 3 } ] }  # comment = 4
text = \"\"\"
[no.table]
no = 1
\"\"\"
other = '''x = 1'''
date = 2024-01-02
[[t.u]]
v = 1
[t.u.w]
x = 1
[[t.u]]
v = 2
"""
    cfg = read_data(text, "f", ".toml")
    y = cfg["a"]["b"]["c d"]["y"]
    found = [
        origin_of(holder, key)
        for holder, key in [
            (cfg, "quoted key"),
            (cfg["a"]["b"], "c d"),
            (y[0], "z"),
            (y[1], "z"),
            (cfg, "other"),
            (cfg, "date"),
            (cfg["t"]["u"][0], "v"),
            (cfg["t"]["u"][0]["w"], "x"),
            (cfg["t"]["u"][1], "v"),
        ]
    ]
    assert [origin.line for origin in found if origin] == [1, 2, 2, 3, 8, 9, 11, 13, 15]
    assert cfg["date"] == "2024-01-02"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("main.json", '{"_base_": "base.json", "x": "see {{ _base_.a }}, ok", "y": [{{ _base_.b }},\n{{ _base_.a }}]}'),
        (
            "main.toml",
            "_base_ = 'base.json'\nx = 'see {{ _base_.a }}, ok' # {{ _base_.a }}\ny=[{{_base_.b}},\n{{_base_.a}}]",
        ),
    ],
)
def test_references_to_the_base_in_strings_and_as_values(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "base.json").write_text('{"a": 3, "b": "it\'s"}')
    (tmp_path / name).write_text(text)
    assert Config.fromfile(tmp_path / name).to_dict() == {"a": 3, "b": "it's", "x": "see 3, ok", "y": ["it's", 3]}
