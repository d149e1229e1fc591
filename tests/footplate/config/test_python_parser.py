import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config, LazyObject
from footplate.error_context import origin_of
from footplate.errors import ConfigError, Origin
from tests.footplate.config.conftest import Write

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
        (lambda cfg: cfg.model.backbone, "depth", 5),
        (lambda cfg: cfg.model.backbone, "norm", 6),
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
        ("act = ReLU\nx = dict(type=ReLU)", {"act": "torch.nn.ReLU", "x": {"type": "torch.nn.ReLU"}}),
        ("del n", {"n": None}),
        ("__y = 1\n_z = 2", {"_z": 2}),
    ],
)
def test_bases_are_imported_into_the_config(write: Write, text: str, changed: dict[str, Any]) -> None:
    expected = {key: value for key, value in {**RESOLVED, **changed}.items() if value is not None}
    assert resolved(write, HEAD + text + "\n") == expected


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
    assert isinstance(cfg.a["type"], LazyObject)
    assert ("torch" in sys.modules) == before


def test_pure_config_keeps_functions_and_imports_the_standard_library(write: Write) -> None:
    text = "from fp_nope import X\nimport os.path\nfrom math import sqrt\ndef double(x):\n    return 2 * x\n"
    cfg = resolved(write, text + "a = double(sqrt(4))\nb = os.path.join('c', 'd')\n")
    assert callable(cfg.pop("double"))
    assert cfg == {"a": 4.0, "b": "c/d"}


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("with read_base():\n    from . import base\n", "may contain only imports such as `from .file import *`", 2),
        ("with read_base():\n    from .base import nope\n", "the base 'base' does not define 'nope'", 2),
        ("from fp_nope import *\n", "is allowed only inside `with read_base():`", 1),
        ("with read_base():\n    from .main import *\n", "circular", 2),
    ],
)
def test_invalid_imports_report_the_line(write: Write, text: str, message: str, line: int) -> None:
    main = write({"main.py": text, "base.py": "a = 1\n"})
    with pytest.raises(ConfigError) as caught:
        Config.fromfile(main)
    assert message in caught.value.message
    assert caught.value.origin == Origin(str(main), line)
