"""Invalid configs and overrides: each raises an error of at most five lines that contains the file and the line."""

from pathlib import Path

import pytest

from footplate.config import Config
from footplate.engine.plan.top_level_keys import check_top_level_keys
from footplate.errors import ConfigError, ConfigKeyError
from tests.footplate.config.conftest import Write

# The text of main.py, the line in the error (0: unknown), and a part of the message.
SCRIPTS = [
    ("a = (", 1, "never closed"),
    ("a = 1\n  b = 2\n", 2, "unexpected indent"),
    ("a = '\0'\n", 0, "null bytes"),
    ("a = " + "(" * 10_000, 1, "too many nested parentheses"),
    ("def f():\n    return f()\na = f()\n", 2, "RecursionError"),
    ("a = 1\nb = 1 / 0\n", 2, "raised ZeroDivisionError: division by zero"),
    ("_base_ = 'base.py'\nc = l\n", 2, "A base defines 'l'. Write `_base_.l`."),
    ("with read_base():\n    from .base import b\nc = l\n", 3, "Import 'l' in `with read_base():`."),
    ("import sys\nsys.exit(3)\n", 2, "raised SystemExit: 3"),
    ("a = 1\n_base_ = ['base.py',\n  'nope.py']\n", 3, "does not exist"),
    ("_base_ = dict(a='base.py')\n", 1, "`_base_` must be a path"),
    ("_base_ = ['base.py', 3]\n", 1, "`_base_` must be a path"),
    ("x = _base_.a\n_base_ = 'base.py'\n", 1, "NameError: name '_base_' is not defined"),
    ("_base_ = '{{ _base_.l }}.py'\n", 1, "no key 'l'"),
    ("_base_ = 'base.py'\n_base_ += ['base2.py']\n", 2, "raised TypeError"),
    ("for _base_ in ('base.py', 'base2.py'):\n    pass\n", 1, "`_base_` is set twice"),
    ("[_base_ := name for name in ['base.py']]\n", 0, "`_base_` must be set by a top-level assignment"),
    ("_base_ = 'base.txt'\n", 1, "the suffix must be one of"),
    ("_base_ = 'broken.py'\n", 2, "never closed"),
    ("a = dict(\n    b=1\n    c=2)\n", 2, "you forgot a comma?\n  at {main}:2\n  b=1"),
    ("_base_ = 'base.py'\nb = {{ _base_.a.nope }}\n", 2, "the base has no key 'a.nope'"),
    ("_base_ = 'base.py'\nb = {{ _base_.a.__class__ }}\n", 2, "no key 'a.__class__'"),
    ("a = {{'$FP_NONE:[1'}}\n", 1, "cannot read the value"),
]
FILES = {
    "base.py": "a = dict(b=1)\nb = 2\nl = [1]\n",
    "base.json": '{"model": {"width": 1}}',
    "broken.py": "x = 1\ny = (\n",
    "base.txt": "a = 1\n",
}


def test_invalid_python_configs(write: Write) -> None:
    for text, line, message in SCRIPTS:
        main = write({"main.py": text, **FILES})
        with pytest.raises(ConfigError) as caught:
            check_top_level_keys(Config.fromfile(main))
        lines = str(caught.value).splitlines()
        assert message.replace("{main}", str(main)) in str(caught.value)
        assert len(lines) <= 5
        assert max(map(len, lines)) < 600
        assert caught.value.origin is not None
        assert (caught.value.origin.line, Path(caught.value.origin.file).parent) == (line, main.parent)


@pytest.mark.parametrize("name", ["child.yaml", "child.json"])
def test_reference_to_a_python_attribute_is_refused(write: Write, name: str) -> None:
    texts = {
        ".yaml": "_base_: ./base.json\nvalue: '{{ _base_.model.__class__ }}'\n",
        ".json": '{"_base_": "./base.json",\n"value": "{{ _base_.model.__class__ }}"}\n',
    }
    main = write({name: texts[Path(name).suffix], **FILES})
    with pytest.raises(ConfigKeyError, match="'model.__class__'"):
        Config.fromfile(main)
