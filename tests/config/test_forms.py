import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config, LazyObject
from footplate.config.forms import read_form, write_form
from footplate.error_context import origin_of
from footplate.errors import ConfigError, Origin

Write = Callable[[Mapping[str, str]], Path]

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
TOML = """\
_base_ = "base.yaml"
value = {{ _base_.a.b }}
words = "<{{_base_.s}}>"
name = "{{ fileBasename }}"
number = {{'$FP_NONE:3'}}
[a]
x = 1
[[a.list]]
deep = true
[[a.list]]
deep = false
"""


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [("main.json", JSON, (3, 4, 4, 8)), ("main.yaml", YAML, (3, 5, 6, 9)), ("main.toml", TOML, (7, 9, 11, 4))],
)
def test_each_form_inherits_and_knows_its_lines(write: Write, name: str, text: str, lines: tuple[int, ...]) -> None:
    main = write({name: text, "base.yaml": "a: {b: !!python/tuple [1, 2], x: 0}\ns: text\n"})
    cfg = Config.fromfile(main)
    off = False if name.endswith("toml") else None
    assert cfg.to_dict() == {
        "a": {"b": (1, 2), "x": 1, "list": [{"deep": True}, {"deep": off}]},
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
        (".json", {"a": {"b": [{1, 2}]}}, "JSON cannot hold a set"),
        (".toml", {"a": {"b": None}}, "TOML cannot hold None"),
        (".json", {"a": {1: 2}}, "JSON has strings as keys only"),
        (".toml", {"a": {1: 2}}, "TOML has strings as keys only"),
        (".yaml", {"a": 1j}, "YAML cannot hold a complex"),
        (".py", {"a": object()}, "Python cannot hold a object"),
        (".py", {"__a": 1}, "'__a' at the top of a Python config is no key"),
        (".json", {"_base_": 1}, "'_base_' at the top of a JSON config is no key"),
    ],
)
def test_values_without_a_form_are_refused_by_key(suffix: str, value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_form(value, suffix)


def test_the_refusal_names_key_and_place(write: Write) -> None:
    cfg = Config.fromfile(write({"main.py": "a = 1\nb = dict(\n    c=[None])\n"}))
    with pytest.raises(ConfigError) as caught:
        write_form(cfg._cfg_dict, ".toml")
    assert (caught.value.key, caught.value.origin) == ("b.c[0]", Origin(str(cfg.filename), 3))


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_tuples_become_lists_with_a_word(suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "footplate.config"):
        text = write_form({"a": (1, (2, 3))}, suffix)
    assert read_form(text, "f", suffix) == {"a": [1, [2, 3]]}
    assert "has no tuples: 2 were written as lists" in caplog.records[0].getMessage()


@pytest.mark.parametrize("suffix", [".py", ".json", ".yaml", ".toml"])
def test_words_in_braces_and_names_survive(suffix: str) -> None:
    value = {"a": "{{ fileDirname }} {{$HOME:x}} {{_base_.x}} {{'$A:1'}}", "b": LazyObject("x.Y"), "c": dict}
    text = write_form(value, suffix)
    assert Config.fromstring(text, suffix).to_dict() == {**value, "b": "x.Y", "c": "builtins.dict"}
