import ast
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config, LazyObject, read_base
from footplate.config.python_parser import FILL_STRING, MAKE_DICT, _Rewriter
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
def test_every_key_has_its_line(write: Write, key: Callable[[Config], Any], name: object, line: int) -> None:
    origin = place(write, TEXT, key, name)
    assert origin is not None
    assert (Path(origin.file).name, origin.line) == ("main.py", line)


def test_python_statements_are_executed(write: Write) -> None:
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
def test_syntax_errors_report_the_line(write: Write, text: str, message: str, line: int) -> None:
    main = write({"main.py": text})
    with pytest.raises(ConfigSyntaxError, match=message) as caught:
        Config.fromfile(main)
    assert caught.value.origin == Origin(str(main), line)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a = 1\nb = 1 / 0\n", "raised ZeroDivisionError: division by zero", 2),
        ("import sys\nsys.exit(3)\n", "raised SystemExit: 3", 2),
        ("a = 1\nb = c\n", "executing the config raised NameError: name 'c' is not defined", 2),
        ("def f():\n    return {}['x']\n\n\na = f()\n", "raised KeyError: 'x'", 2),
        ("a = {}\na['a'] = a\n", "nested too deeply", 1),
        ("a = 1\nfor _ in range(10000):\n    a = [a]\n", "nested too deeply", 1),
    ],
)
def test_failing_config_reports_the_line(write: Write, text: str, message: str, line: int) -> None:
    main = write({"main.py": text})
    with pytest.raises(ConfigError, match=message) as caught:
        Config.fromfile(main)
    assert caught.value.origin == Origin(str(main), line)
    assert len(str(caught.value).splitlines()) <= 5


@pytest.mark.parametrize("value", ["3", "dict(a=1)", "[1]", "None"])
def test_base_must_be_a_path(write: Write, value: str) -> None:
    with pytest.raises(ConfigError, match="`_base_` must be a path or a list of paths"):
        Config.fromfile(write({"main.py": f"_base_ = {value}\n"}))


def test_base_uses_only_the_lines_before_it(write: Write) -> None:
    assert Config.fromfile(write({"main.py": "name = 'b.py'\n_base_ = name\n", "b.py": "a = 1"})).a == 1
    with pytest.raises(ConfigError, match="it can use only the variables set before it"):
        Config.fromfile(write({"main.py": "_base_ = name\nname = 'b.py'\n"}))


def test_invalid_escapes_do_not_warn(write: Write) -> None:
    assert Config.fromfile(write({"main.py": "a = '\\d'\n"})).a == "\\d"


HEAD = "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
BASE = "from torch.nn import ReLU\na = dict(b=1, c=dict(d=2))\nn = dict(q=1)\np = [dict(n=n)]\n_h = 1\n__i = 2\n"
RESOLVED: dict[str, Any] = {"a": {"b": 1, "c": {"d": 2}}, "n": {"q": 1}, "p": [{"n": {"q": 1}}], "_h": 1}


def resolved(write: Write, text: str, base: str = BASE, **arguments: Any) -> dict[str, Any]:
    return Config.fromfile(write({"main.py": text, "base.py": base}), **arguments).to_dict()


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", {}),
        ("a.b = 5\na.update(dict(q=3))", {"a": {"b": 5, "c": {"d": 2}, "q": 3}}),
        ("a = dict(b=3)", {"a": {"b": 3}}),
        ("a.merge(dict(c=dict(_delete_=True, z=1)))", {"a": {"b": 1, "c": {"z": 1}}}),
        ("n.q = 9", {"n": {"q": 9}}),
        ("act = ReLU\nx = dict(type=ReLU)", {"act": "torch.nn.ReLU", "x": {"type": "torch.nn.ReLU"}}),
        ("del n", {"n": None}),
        ("__y = 1\n_z = 2", {"_z": 2}),
    ],
)
def test_bases_are_imported_into_the_config(write: Write, text: str, changed: dict[str, Any]) -> None:
    expected = {key: value for key, value in {**RESOLVED, **changed}.items() if value is not None}
    assert resolved(write, HEAD + text + "\n") == expected


def test_names_of_a_base_can_be_chosen_and_renamed(write: Write) -> None:
    text = HEAD.replace("import *", "import a as first, n") + "n.q = first.b\n"
    assert resolved(write, text) == {"first": {"b": 1, "c": {"d": 2}}, "n": {"q": 1}}


def test_imports_of_pure_configs_are_lazy(write: Write) -> None:
    text = """\
import torch.nn.functional as F
import torch
from fp_nope.models import Net
from torch import nn
try:
    from fp_nope import Other
except ImportError:
    Other = None
a = dict(type=Net, act=F.relu, dtype=torch.float16, conv=nn.Conv2d, other=[Other], plain=int)
"""
    before = "torch" in sys.modules
    cfg = Config.fromfile(write({"main.py": text}))
    assert cfg.to_dict() == {
        "a": {
            "type": "fp_nope.models.Net",
            "act": "torch.nn.functional.relu",
            "dtype": "torch.float16",
            "conv": "torch.nn.Conv2d",
            "other": ["fp_nope.Other"],
            "plain": int,
        }
    }
    assert isinstance(cfg.a.type, LazyObject)
    assert ("torch" in sys.modules) == before


def test_pure_config_keeps_functions_and_imports_the_standard_library(write: Write) -> None:
    text = "from fp_nope import X\nimport os.path\nfrom math import sqrt\ndef double(x):\n    return 2 * x\n"
    cfg = resolved(write, text + "a = double(sqrt(4))\nb = os.path.join('c', 'd')\n")
    assert callable(cfg.pop("double"))
    assert cfg == {"a": 4.0, "b": "c/d"}


@pytest.mark.parametrize(
    ("text", "pure"),
    [
        ("import copy\na = copy.copy([1])\n", False),
        ("_base_ = 'base.py'\nimport copy\n", False),
        ("from fp_nope import X\n", True),
        ("def f():\n    from fp_nope import X\n", False),
        ("if True:\n    with read_base():\n        from .base import *\n", True),
    ],
)
def test_pure_python_configs_are_detected(write: Write, text: str, pure: bool) -> None:
    cfg = resolved(write, f"{text}\n\ndef mark():\n    pass\n")
    assert ("mark" in cfg) == pure


def test_pure_config_may_inherit_from_other_configs(write: Write) -> None:
    files = {
        "main.py": HEAD.replace(".base", ".text"),
        "text.py": "_base_ = 'base.py'\na = dict(b=2)\n",
        "base.py": BASE,
    }
    assert Config.fromfile(write(files)).to_dict() == {**RESOLVED, "a": {"b": 2, "c": {"d": 2}}}


def test_origins_lead_through_bases(write: Write) -> None:
    cfg = Config.fromfile(write({"main.py": HEAD + "a.b = 5\nn = 3\n", "base.py": BASE}))
    places = [origin_of(cfg.a, "b"), origin_of(cfg.a.c, "d"), origin_of(cfg, "n")]
    assert [(Path(place.file).name, place.line) for place in places if place] == [
        ("main.py", 4),
        ("base.py", 2),
        ("main.py", 5),
    ]
    replaced = getattr(origin_of(cfg, "n"), "replaced", None)
    assert replaced is not None
    assert replaced.origin.line == 3


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("with read_base():\n    from . import base\n", "may contain only `from .file import ...`", 2),
        ("with read_base():\n    import base\n", "may contain only `from .file import ...`", 2),
        ("with read_base():\n    x = 1\n", "may contain only `from .file import ...`", 2),
        ("with read_base():\n    from .nope import *\n", "does not exist", 2),
        ("with read_base():\n    from .base import nope\n", "'base' has no 'nope'", 2),
        ("with read_base():\n    from fp_nope.configs.x import *\n", "there is no config 'fp_nope.configs.x'", 2),
        ("from fp_nope import *\n", "is allowed only inside `with read_base():`", 1),
        ("from fp_nope import X\na = X(1)\n", "'fp_nope.X' is imported lazily and cannot be called", 2),
        ("from fp_nope import X\nimport json.nope\n", "Python has no module or object 'json.nope'", 2),
        ("with read_base():\n    from .main import *\n", "circular", 2),
    ],
)
def test_invalid_imports_report_the_line(write: Write, text: str, message: str, line: int) -> None:
    main = write({"main.py": text, "base.py": "a = 1\n"})
    with pytest.raises(ConfigError) as caught:
        Config.fromfile(main)
    assert message in caught.value.message
    assert caught.value.origin == Origin(str(main), line)


def test_lazy_import_can_be_set(write: Write) -> None:
    main = write({"main.py": "import json\nfrom fp_nope import X\n"})
    with pytest.raises(ConfigError, match="No module named 'fp_nope'"):
        Config.fromfile(main, lazy_import=False)
    assert Config.fromfile(main, lazy_import=True).to_dict() == {}
    with pytest.raises(ConfigSyntaxError):
        Config.fromfile(write({"m.py": "from fp_nope import *\n"}), lazy_import=True)


def test_read_base_does_nothing_by_itself() -> None:
    with read_base():
        value = 1
    assert value == 1


def rewritten(text: str) -> tuple[str, _Rewriter]:
    tree, rewriter = ast.parse(text), _Rewriter("main.py")
    rewriter.visit(tree)
    return ast.unparse(ast.fix_missing_locations(tree)), rewriter


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a = dict(b=1)", f"a = {MAKE_DICT}(0, (), b=1)"),
        ("a = {'b': dict()}", f"a = {MAKE_DICT}(1, (), {{'b': {MAKE_DICT}(0, ())}})"),
        ("a = {k: 1 for k in x}", f"a = {MAKE_DICT}(0, (), {{k: 1 for k in x}})"),
        ("a = f(dict(**b), c=[{}])", f"a = f({MAKE_DICT}(0, (b,), **b), c=[{MAKE_DICT}(1, (), {{}})])"),
        ("a = {**b.c[0], **f(b)}", f"a = {MAKE_DICT}(0, (b.c[0],), {{**b.c[0], **f(b)}})"),
        ("a = dict.fromkeys('x')", "a = dict.fromkeys('x')"),
        ("def f():\n    return dict(a=1)", f"def f():\n    return {MAKE_DICT}(0, (), a=1)"),
    ],
)
def test_dicts_become_calls(text: str, code: str) -> None:
    assert rewritten(text)[0] == code


def test_key_lines_hold_the_line_of_each_key() -> None:
    _, rewriter = rewritten("a = dict(\n    b=1,\n    c=dict(d=2),\n)\ne = {\n    'f': 1, 2: 3, **x}\n")
    lines = [{key: origin.line for key, origin in each.items()} for each in rewriter.key_lines]
    assert lines == [{None: 3, "d": 3}, {None: 1, "b": 2, "c": 3}, {None: 5, "f": 6, 2: 6}]


def test_reads_are_the_names_and_the_keys_of_the_base() -> None:
    _, rewriter = rewritten("a = b + _base_.c.d\ne = _base_['f']\ng = [h for h in i]\nj.k = 1\n")
    assert rewriter.reads == {"b", "_base_", "c", "f", "h", "i", "j"}


@pytest.mark.parametrize(
    ("text", "code", "lines"),
    [
        ("a = __footplate_base_0__", "a = __footplate_base_0__", {0: 1}),
        ("a = 1\nb = 'x __footplate_base_1__'", f"a = 1\nb = {FILL_STRING}('x __footplate_base_1__')", {1: 2}),
        ("a = f'{b}__footplate_base_0__'", f"a = f\"{{b}}{{{FILL_STRING}('__footplate_base_0__')}}\"", {0: 1}),
        ("a = 'plain'  # __footplate_base_0__", "a = 'plain'", {}),
    ],
)
def test_references_are_found_and_strings_filled(text: str, code: str, lines: dict[int, int]) -> None:
    found, rewriter = rewritten(text)
    assert (found, rewriter.references) == (code, lines)
