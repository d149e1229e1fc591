import logging
from typing import Any

import pytest

from footplate.config import Config, LazyObject
from footplate.config.data_formats import read_data
from footplate.config.formats import write_config
from footplate.error_context import origin_of
from footplate.errors import ConfigError, Origin
from tests.footplate.config.conftest import Write

JSON = """\
{
  "_base_": "base.yaml",
  "a": {"x": 1,
    "list": [{"deep": true}, {"deep": null}]
  },
  "value": {{ _base_.a.b }},
  "words": "<{{_base_.s}}>",
  "name": "{{ fileBasename }}",
  "number": {{'$FP_NONE:3'}}
}
"""
YAML = """\
_base_: [base.yaml]
a:
  x: 1

  list: [{deep: true},
         {deep: ~}]
value: {{ _base_.a.b }}
words: "<{{_base_.s}}>"
name: {{ fileBasename }}
number: {{'$FP_NONE:3'}}
"""


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [("main.json", JSON, (0, 0, 0, 0)), ("main.yaml", YAML, (3, 5, 6, 9))],
)
def test_each_format_inherits_and_records_origins(write: Write, name: str, text: str, lines: tuple[int, ...]) -> None:
    main = write({name: text, "base.yaml": "a: {b: !!python/tuple [1, 2], x: 0}\ns: text\n"})
    cfg = Config.fromfile(main)
    assert cfg.to_dict() == {
        "a": {"b": (1, 2), "x": 1, "list": [{"deep": True}, {"deep": None}]},
        "s": "text",
        "value": (1, 2),
        "words": "<text>",
        "name": name,
        "number": 3,
    }
    places = [(cfg.a, "x"), (cfg.a.list[0], "deep"), (cfg.a.list[1], "deep"), (cfg, "name")]
    assert [origin_of(*place) for place in places] == [Origin(str(main), line) for line in lines]


@pytest.mark.parametrize(
    ("suffix", "value", "message"),
    [
        (".json", {"a": {"b": [{1, 2}]}}, "a .json config cannot represent a value of type set"),
        (".json", {"a": {1: 2}}, "the keys of a .json config must be strings"),
        (".py", {"a": object()}, "a .py config cannot represent a value of type object"),
        (".json", {"a": lambda: 1}, "a .json config cannot represent a value of type function"),
        (".py", {"a": [len, lambda: 1]}, "a .py config cannot represent a value of type function"),
        (".py", {"__a": 1}, "'__a' is a reserved top-level key in .py configs"),
        (".json", {"_base_": 1}, "'_base_' is a reserved top-level key in .json configs"),
    ],
)
def test_unsupported_values_are_refused(suffix: str, value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_config(value, suffix)


def test_tuples_become_lists_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "footplate.config"):
        text = write_config({"a": (1, (2, 3))}, ".json")
    assert read_data(text, "f", ".json") == {"a": [1, [2, 3]]}
    assert "does not support tuples. They were written as lists." in caplog.records[0].getMessage()


@pytest.mark.parametrize("suffix", [".py", ".json", ".yaml"])
def test_placeholders_and_lazy_names_are_preserved(suffix: str) -> None:
    value = {"a": "{{ fileDirname }} {{$HOME:x}} {{_base_.x}} {{'$A:1'}}", "b": LazyObject("x.Y"), "c": dict}
    text = write_config(value, suffix)
    kind = dict if suffix == ".py" else "builtins.dict"
    cfg = Config.fromstring(text, suffix)
    assert (cfg.a, cfg["b"], cfg.c) == (value["a"], value["b"] if suffix == ".py" else "x.Y", kind)
