import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config, LazyObject
from footplate.config.forms import read_form, write_form
from footplate.errors import ConfigError, ConfigSyntaxError, Origin, origin_of

Write = Callable[[Mapping[str, str]], Path]

JSON = """\
{
  "_base_": "base.py",
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
_base_: [base.py]
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
_base_ = "base.py"
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
    main = write({name: text, "base.py": "a = dict(b=(1, 2), x=0)\ns = 'text'\n"})
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
    ("suffix", "text", "message", "line"),
    [
        (".json", '{\n"a": 1,\n"a": 2}', "the key 'a' stands twice in one object, first in line 2", 3),
        (".json", '{"a": 1,\n}', "expected an item between ',' and '}'", 2),
        (".json", '{"a": 1}\n2', "expected the end of the text", 2),
        (".json", '{"a"\n1}', "expected ':' after the key", 2),
        (".json", '{"a": [1\n2]}', "expected ',' or ']'", 2),
        (".json", "{a: 1}", "expected a key in double quotes", 1),
        (".json", '{"a": b}', "expected a value, not the word 'b'", 1),
        (".json", '{"a": \n}', "expected a value", 2),
        (".json", '{"a": "x', "unterminated string", 1),
        (".json", "", "expected a value", 1),
        (".json", "[1]", "a config maps keys to values", 1),
        (".json", '{"a": ' + "9" * 5000 + "}", "a number is too long", 1),
        (".yaml", "a: 1\na: 2", "the key 'a' stands twice in one mapping, first in line 1", 2),
        (".yaml", "a: [1\nb: 2", "did not find expected ',' or ']'", 2),
        (".yaml", "- a", "a config maps keys to values", 1),
        (".yaml", "a: 1\n2: 3", "the keys of a config are names", 2),
        (".yaml", "a: !!python/object/apply:os.system ['true']", "could not determine a constructor", 1),
        (".yaml", "a: !!python/name:os.system", "could not determine a constructor", 1),
        (".yaml", "a: &x [*x]", "nested too deeply", 1),
        (".yaml", "a: *b", "found undefined alias", 1),
        (".yaml", "? {b: 1}\n: 2", "a key must not be a list or a mapping", 1),
        (".yaml", "a: \x01", "not valid YAML", 1),
        (".yaml", "a: 1\n---\nb: 2", "expected a single document", 2),
        (".yaml", "a: " + "[" * 300, "nested too deeply", 1),
        (".toml", "a = 1\na = 2", "Cannot overwrite a value", 2),
        (".toml", "a = \n", "Invalid value", 1),
        (".toml", "a = 1\n[b", "Expected ']'", 2),
    ],
)
def test_wrong_texts_name_the_line(suffix: str, text: str, message: str, line: int) -> None:
    with pytest.raises(ConfigSyntaxError, match="(?i)" + re.escape(message)) as caught:
        Config.fromstring(text, suffix)
    assert caught.value.origin is not None
    assert caught.value.origin.line == line
    assert len(str(caught.value).splitlines()) <= 5


def test_yaml_reads_what_people_mean() -> None:
    text = (
        "lr: 1e-3\ndate: 2024-01-02\nt: !!python/tuple [1, 2]\ns: !!set {a, b}\n"
        "base: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}\n"
    )
    cfg = read_form(text, "main.yaml", ".yaml")
    assert cfg == {
        "lr": 0.001,
        "date": "2024-01-02",
        "t": (1, 2),
        "s": {"a", "b"},
        "base": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 3},
    }
    assert origin_of(cfg["c"], "y") == Origin("main.yaml", 6)
    assert read_form("", "main.yaml", ".yaml") == {}


def test_a_short_yaml_text_cannot_stand_for_a_huge_tree() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    with pytest.raises(ConfigSyntaxError, match="more than 500000 values"):
        read_form("\n".join(lines), "main.yaml", ".yaml")


def test_toml_lines_are_found_in_every_notation() -> None:
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
    cfg = read_form(text, "f", ".toml")
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
