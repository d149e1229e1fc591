from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigSyntaxError, Origin

Write = Callable[[Mapping[str, str]], Path]

TEXT = """\
norm = dict(type='BN')
model = dict(
    type='Net',
    backbone=dict(
        depth=50,
        norm=norm),
    heads=[
        {'type': 'A',
         'norm': norm},
    ])
table = {name: dict(index=i) for i, name in enumerate('ab')}
model['extra'] = 1
model.update(
    more=2)
for step in range(3):
    last = step
"""


def place(write: Write, text: str, key: Callable[[Config], Any], name: object) -> Origin | None:
    return origin_of(key(Config.fromfile(write({"main.py": text}))), name)


@pytest.mark.parametrize(
    ("key", "name", "line"),
    [
        (lambda cfg: cfg, "model", 2),
        (lambda cfg: cfg.model, None, 2),
        (lambda cfg: cfg.model, "type", 3),
        (lambda cfg: cfg.model.backbone, "depth", 5),
        (lambda cfg: cfg.model.backbone, "norm", 6),
        (lambda cfg: cfg.model.backbone.norm, "type", 1),
        (lambda cfg: cfg.model.heads[0], "type", 8),
        (lambda cfg: cfg.model.heads[0], "norm", 9),
        (lambda cfg: cfg.table.b, "index", 11),
        (lambda cfg: cfg.model, "extra", 12),
        (lambda cfg: cfg.model, "more", 13),
        (lambda cfg: cfg, "last", 16),
    ],
)
def test_every_key_knows_its_line(write: Write, key: Callable[[Config], Any], name: object, line: int) -> None:
    origin = place(write, TEXT, key, name)
    assert origin is not None
    assert (Path(origin.file).name, origin.line) == ("main.py", line)


def test_execution_keeps_python(write: Write) -> None:
    text = """\
_base_ = []
import os
from os.path import join
_x = 1
__y = 2
def double(value):
    return value * 2
class Own:
    size = 3
a = double(2)
b = [double(i) for i in range(2)]
if a > 3:
    c = Own.size
while c < 5:
    c += 1
d = dict({1: 2}, **{'e': (1, [dict(f=3)])})
f, (g, h) = 1, (2, 3)
i = j = dict(k=1)
del h
"""
    cfg = Config.fromfile(write({"main.py": text})).to_dict()
    assert cfg.pop("Own").size == 3
    expected = dict(_x=1, a=4, b=[0, 2], c=5, d={1: 2, "e": (1, [{"f": 3}])}, f=1, g=2, i={"k": 1}, j={"k": 1})
    assert cfg == expected


def test_keys_may_have_any_name(write: Write) -> None:
    cfg = Config.fromfile(write({"main.py": "a = dict(cls=1, self=2, site=3, key=4, args=5)\n"}))
    assert cfg.to_dict() == {"a": {"cls": 1, "self": 2, "site": 3, "key": 4, "args": 5}}


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a = 1\nb = (\n", "not valid Python: '\\(' was never closed", 2),
        ("a = dict(b=1, b=2)\n", "not valid Python: keyword argument repeated: b", 1),
        ("x = 1\n\na = " + "[" * 300 + "\n", "too many nested parentheses", 3),
        ("a = '\0'\n", "null bytes", 1),
        ("x = 1\n _y = 2\n", "unexpected indent", 2),
    ],
)
def test_syntax_errors_name_the_line(write: Write, text: str, message: str, line: int) -> None:
    main = write({"main.py": text})
    with pytest.raises(ConfigSyntaxError, match=message) as caught:
        Config.fromfile(main)
    assert caught.value.origin == Origin(str(main), line)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a = 1\nb = 1 / 0\n", "fails with ZeroDivisionError: division by zero", 2),
        ("import sys\nsys.exit(3)\n", "fails with SystemExit: 3", 2),
        ("a = 1\nb = c\n", "fails with NameError: name 'c' is not defined", 2),
        ("def f():\n    return {}['x']\n\n\na = f()\n", "fails with KeyError: 'x'", 2),
        ("a = {}\na['a'] = a\n", "nested too deeply", 1),
        ("a = 1\nfor _ in range(10000):\n    a = [a]\n", "nested too deeply", 1),
    ],
)
def test_a_config_that_fails_names_the_line(write: Write, text: str, message: str, line: int) -> None:
    main = write({"main.py": text})
    with pytest.raises(ConfigError, match=message) as caught:
        Config.fromfile(main)
    assert caught.value.origin == Origin(str(main), line)
    assert len(str(caught.value).splitlines()) <= 5


@pytest.mark.parametrize("value", ["3", "dict(a=1)", "[1]", "None"])
def test_base_takes_paths_only(write: Write, value: str) -> None:
    with pytest.raises(ConfigError, match="`_base_` takes a path or a list of paths"):
        Config.fromfile(write({"main.py": f"_base_ = {value}\n"}))


def test_base_cannot_use_other_lines(write: Write) -> None:
    with pytest.raises(ConfigError, match="read before the rest of the file"):
        Config.fromfile(write({"main.py": "name = 'b.py'\n_base_ = name\n", "b.py": ""}))


def test_old_escapes_in_strings_do_not_warn(write: Write) -> None:
    assert Config.fromfile(write({"main.py": "a = '\\d'\n"})).a == "\\d"
