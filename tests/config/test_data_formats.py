import re
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.config.data_formats import read_data
from footplate.error_context import origin_of
from footplate.errors import ConfigSyntaxError, Origin


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\na: 2", "the key 'a' occurs twice in one mapping, first on line 1", 2),
        ("a: [1\nb: 2", "did not find expected ',' or ']'", 2),
        ("- a", "a config must be a mapping of keys to values", 1),
        ("a: 1\n2: 3", "a top-level key must be a string", 2),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor", 1),
        ("a: 1\n---\nb: 2", "expected a single document", 2),
    ],
)
def test_invalid_yaml_reports_the_line(text: str, message: str, line: int) -> None:
    with pytest.raises(ConfigSyntaxError, match="(?i)" + re.escape(message)) as caught:
        read_data(text, "main.yaml", ".yaml")
    assert caught.value.origin == Origin("main.yaml", line)
    assert len(str(caught.value).splitlines()) <= 5


def test_yaml_numbers_dates_tuples_and_merges() -> None:
    text = (
        "lr: 1e-3\ndate: 2024-01-02\nt: !!python/tuple [1, 2]\ns: !!set {a, b}\n"
        "base: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}\n"
    )
    cfg = read_data(text, "main.yaml", ".yaml")
    assert cfg == {
        "lr": 0.001,
        "date": "2024-01-02",
        "t": (1, 2),
        "s": {"a", "b"},
        "base": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 3},
    }
    assert origin_of(cfg["c"], "y") == Origin("main.yaml", 6)
    assert read_data("", "main.yaml", ".yaml") == {}


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ('{\n"a": 1,\n"a": 2}', "the key 'a' occurs twice in one object", 0),
        ('{"a": 1\n"b": 2}', "expecting ',' delimiter", 2),
        ("", "expecting value", 1),
        ("[1]", "a config must be a mapping of keys to values", 1),
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


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a = 1\na = 2", "Cannot overwrite a value", 0),
        ("a = \n", "Invalid value", 1),
    ],
)
def test_invalid_toml_reports_the_line(text: str, message: str, line: int) -> None:
    with pytest.raises(ConfigSyntaxError, match="(?i)" + re.escape(message)) as caught:
        read_data(text, "main.toml", ".toml")
    assert caught.value.origin == Origin("main.toml", line)
    assert len(str(caught.value).splitlines()) <= 5


def test_toml_dates_become_strings() -> None:
    assert read_data("a = 2024-01-02\nb = [2024-01-02T03:04:05]", "main.toml", ".toml") == {
        "a": "2024-01-02",
        "b": ["2024-01-02T03:04:05"],
    }


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
