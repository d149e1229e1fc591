"""A hundred wrong configs and overrides: each gets an error of five lines at most that names its place."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from footplate.config import Config, apply_overrides, check_top_level_keys
from footplate.errors import ConfigError, OverrideError

Write = Callable[[Mapping[str, str]], Path]

DEEP = 10_000
# Text of main.py, the file and line that the error names ("" for the file itself), a part of its message.
SCRIPTS = [
    ("a = (", 1, "never closed"),
    ("a = [1, 2", 1, "never closed"),
    ("a = {1: 2", 1, "never closed"),
    ("a = 1)\n", 1, "unmatched"),
    ("a = (1]\n", 1, "does not match"),
    ("a = 'x\n", 1, "unterminated string"),
    ("a = 1\nb = '''x\n", 2, "unterminated triple-quoted"),
    ("a = = 1\n", 1, "invalid syntax"),
    ("1a = 2\n", 1, "invalid"),
    ("a b = 2\n", 1, "invalid syntax"),
    ("a = 1\n  b = 2\n", 2, "unexpected indent"),
    ("if True:\na = 1\n", 2, "expected an indented block"),
    ("for i in:\n  pass\n", 1, "invalid syntax"),
    ("def f(:\n  pass\n", 1, "invalid syntax"),
    ("class = 1\n", 1, "invalid syntax"),
    ("None = 1\n", 1, "cannot assign to None"),
    ("f() = 1\n", 1, "cannot assign to function call"),
    ("a = dict(b=1, b=2)\n", 1, "keyword argument repeated"),
    ("a = dict(1=2)\n", 1, "not valid Python"),
    ("a = dict(b=1 c=2)\n", 1, "not valid Python"),
    ("return 1\n", 1, "'return' outside function"),
    ("a = 1\nbreak\n", 2, "'break' outside loop"),
    ("a = await b\n", 1, "outside"),
    ("import\n", 1, "not valid Python"),
    ("from x import\n", 1, "not valid Python"),
    ("a = 0777\n", 1, "leading zeros"),
    ("a = 1__0\n", 1, "invalid decimal literal"),
    ("a = '\\x1'\n", 1, "unicode error"),
    ("a = f'{'\n", 1, "not valid Python"),
    ("a = $x\n", 1, "invalid syntax"),
    ("a = ?\n", 1, "invalid syntax"),
    ("<<<<<<< HEAD\na = 1\n", 1, "invalid syntax"),
    ("a: 1\nb: [2\n", 2, "never closed"),
    ("{\n  'a': 1,\n  'b' 2\n}\n", 3, "not valid Python"),
    ("a = " + "(" * DEEP, 1, "too many nested parentheses"),
    ("a = " + "[" * DEEP + "]" * DEEP, 1, "too many nested parentheses"),
    ("a = " + "-" * DEEP + "1\n", 1, "nested too deeply"),
    ("a = 1" + " + 1" * DEEP + "\n", 1, "nested too deeply"),
    ("a = 1\nfor i in range(10000):\n    a = dict(a=a)\n", 1, "nested too deeply"),
    ("a = {}\na['a'] = a\n", 1, "nested too deeply"),
    ("a = []\na.append(a)\n", 1, "nested too deeply"),
    ("def f():\n    return f()\na = f()\n", 2, "RecursionError"),
    ("a = 1 / 0\n", 1, "ZeroDivisionError"),
    ("a = nope\n", 1, "name 'nope' is not defined"),
    ("a = [][1]\n", 1, "IndexError"),
    ("a = dict(b=1)['c']\n", 1, "KeyError"),
    ("a = 'x' + 1\n", 1, "TypeError"),
    ("a = int('x')\n", 1, "ValueError"),
    ("raise Exception\n", 1, "raised Exception"),
    ("assert False\n", 1, "AssertionError"),
    ("import fp_nope\n_base_ = []\n", 1, "raised ModuleNotFoundError"),
    ("import sys\nsys.exit()\n", 2, "SystemExit"),
    ("raise SystemExit('bye')\n", 1, "SystemExit"),
    ("raise StopIteration\n", 1, "StopIteration"),
    ("a = open('fp_nope').read()\n", 1, "FileNotFoundError"),
    ("_base_ = 'nope.py'\n", 1, "does not exist"),
    ("a = 1\n_base_ = ['base.py',\n  'nope.py']\n", 3, "does not exist"),
    ("_base_ = 3\n", 1, "`_base_` must be a path"),
    ("_base_ = None\n", 1, "`_base_` must be a path"),
    ("_base_ = dict(a='base.py')\n", 1, "`_base_` must be a path"),
    ("_base_ = ['base.py', 3]\n", 1, "`_base_` must be a path"),
    ("_base_ = name\n", 1, "it can use only the variables set before it"),
    ("import sys\nsys.exit(3)\nname = 'a.py'\n_base_ = [name]\n", 2, "SystemExit: 3"),
    ("size = 1 / 0\n_base_ = [str(size)]\n", 1, "ZeroDivisionError"),
    ("_base_ = 1 / 0\n", 1, "cannot be evaluated"),
    ("_base_ = '.'\n", 1, "is a folder, not a file"),
    ("_base_ = ''\n", 1, "is a folder, not a file"),
    ("_base_ = 'main.py'\n", 1, "circular"),
    ("_base_ = 'circle.py'\n", 1, "circular"),
    ("_base_ = 'base.txt'\n", 1, "the suffix must be one of"),
    ("_base_ = 'broken.py'\n", 2, "never closed"),
    ("_base_ = ['base.py', 'twin.py']\n", 1, "define the key 'a'"),
    ("_base_ = ['base.py', 'base.py']\n", 1, "define the key 'a'"),
    ("_base_ = 'fp_nope::a.py'\n", 1, "is not installed"),
    ("_base_ = 'base.py'\nb = dict(c=1)\n", 2, "merged into the int"),
    ("_base_ = 'base.py'\nl = dict(c=1)\n", 2, "merged into the list"),
    ("_base_ = 'base.py'\nb = {{ _base_.a.nope }}\n", 2, "the base has no key 'a.nope'"),
    ("_base_ = 'base.py'\nb = {{ _base_.b.c }}\n", 2, "the base has no key 'b.c'"),
    ("_base_ = 'base.py'\nb = _base_.aa\n", 2, "has no key 'aa'"),
    ("_base_ = 'base.py'\nb = _base_['aa']\n", 2, "has no key 'aa'"),
    ("_base_ = 'base.py'\nb = a\n", 2, "name 'a' is not defined"),
    ("a = '{{$FP_NONE:}}'\n", 1, "'FP_NONE' is not set"),
    ("a = {{'$FP_NONE:[1'}}\n", 1, "cannot read the value"),
    ("filename = 'x'\n", 1, "reserved"),
    ("a = 1\ntext = 'x'\n", 2, "reserved"),
    ("pretty_text = 'x'\n", 1, "reserved"),
    ("custom_imports = ['fp_nope']\n", 1, "`custom_imports` must be dict"),
    ("custom_imports = dict(imports=['fp_nope'])\n", 1, "cannot import 'fp_nope'"),
    ("custom_imports = dict(imports=['json.JSONDecoder'])\n", 1, "cannot import"),
    ("custom_imports = dict(import_=['json'])\n", 1, "has no key 'import_'"),
    ("custom_imports = dict(imports=3)\n", 1, "must be a list of module names"),
    ("train_dataloder = dict()\n", 1, "unknown key 'train_dataloder'"),
    ("a = 1\noptim_wraper = dict()\n", 2, "unknown key 'optim_wraper'"),
    ("with read_base():\n    from .nope import *\n", 2, "does not exist"),
    ("with read_base():\n    import base\n", 2, "may contain only"),
    ("with read_base():\n    from .base import nope\n", 2, "has no 'nope'"),
    ("from fp_nope import *\n", 1, "allowed only inside"),
    ("from fp_nope import X\na = X()\n", 2, "cannot be called"),
]
AROUND = {
    "base.py": "a = dict(b=1)\nb = 2\nl = [1]\n",
    "twin.py": "a = 1\n",
    "circle.py": "_base_ = 'main.py'\n",
    "broken.py": "x = 1\ny = (\n",
    "base.txt": "a = 1\n",
}


@pytest.mark.parametrize(("text", "line", "message"), SCRIPTS, ids=[str(number) for number in range(len(SCRIPTS))])
def test_invalid_python_configs(write: Write, text: str, line: int, message: str) -> None:
    main = write({"main.py": text, **AROUND})
    with pytest.raises(ConfigError) as caught:
        check_top_level_keys(Config.fromfile(main), {"train_dataloader", "optim_wrapper"})
    shown = str(caught.value)
    assert message in shown
    assert len(shown.splitlines()) <= 5
    assert max(map(len, shown.splitlines())) < 600
    assert caught.value.origin is not None
    assert caught.value.origin.line == line
    assert caught.value.origin.file.startswith(str(main.parent))


DATA = [
    (".json", "{"),
    (".json", '{"a": [1, 2}'),
    (".json", '{"a": 01}'),
    (".json", '{"a": +1}'),
    (".json", "{'a': 1}"),
    (".json", '{"a": True}'),
    (".json", '{"a": "\n"}'),
    (".json", '{"a": "\\q"}'),
    (".json", '{"a": 1 "b": 2}'),
    (".json", '{"a": 1, "a": 2}'),
    (".json", '{"a": ' + "[" * DEEP + "]" * DEEP + "}"),
    (".json", '{"a":' * DEEP + "1" + "}" * DEEP),
    (".json", '"text"'),
    (".json", '{"text": 1}'),
    (".json", '{"_base_": 3}'),
    (".json", '{"_base_": "nope.json"}'),
    (".json", '{"_base_": "base.py", "l": {"a": 1}}'),
    (".json", '{"a": {{ _base_.nope }}}'),
    (".yaml", "a: [1"),
    (".yaml", "a: {b: 1"),
    (".yaml", "a: 'x"),
    (".yaml", "a: b: c"),
    (".yaml", "a:\n\t- b"),
    (".yaml", "- a\nb: 1"),
    (".yaml", "a: 1\na: 2"),
    (".yaml", "a: &x 1\nb: *y"),
    (".yaml", "a: !!python/object:os.system {}"),
    (".yaml", "a: !own {}"),
    (".yaml", "a: " + "[" * DEEP + "]" * DEEP),
    (".yaml", "- " * DEEP + "a"),
    (".yaml", "1: 2"),
    (".yaml", "_base_: [3]"),
    (".yaml", "filename: 1"),
    (".yaml", "a: !!int x"),
    (".yaml", "%YAML 9.9\n---\na: @"),
    (".toml", "a"),
    (".toml", "a = "),
    (".toml", "a = 1 b = 2"),
    (".toml", "a = 1\na = 2"),
    (".toml", "[a]\n[a]"),
    (".toml", "a = [1"),
    (".toml", 'a = "x'),
    (".toml", "a = 01"),
    (".toml", "[a"),
    (".toml", "a = " + "[" * DEEP + "]" * DEEP),
    (".toml", "_base_ = 3"),
]


@pytest.mark.parametrize(("suffix", "text"), DATA, ids=[f"{suffix}-{n}" for n, (suffix, _) in enumerate(DATA)])
def test_invalid_data_configs(write: Write, suffix: str, text: str) -> None:
    main = write({f"main{suffix}": text, **AROUND})
    with pytest.raises(ConfigError) as caught:
        Config.fromfile(main)
    assert len(str(caught.value).splitlines()) <= 5
    assert caught.value.origin is not None
    assert caught.value.origin.line >= 1
    assert caught.value.origin.file == str(main)


BYTES = [
    b"a = '\xff'\n",
    b"\xff\xfe a = 1\n",
    "a = 1\n".encode("utf-16"),
    b"a = '\0'\n",
    b"\x80\x04K\x01.",
    b"PK\x03\x04\xff",
]


@pytest.mark.parametrize("data", BYTES, ids=[str(number) for number in range(len(BYTES))])
@pytest.mark.parametrize("suffix", [".py", ".json", ".yaml", ".toml"])
def test_invalid_encodings(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"main{suffix}"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        Config.fromfile(path)
    assert len(str(caught.value).splitlines()) <= 5
    assert caught.value.origin is not None


OVERRIDES = ["", "a", "=1", "a.b", "a..b=1", ".a=1", "a.=1", "a.b=[1", "a.b={x", "a.b=(1,", "aa=1", "a.bb=1", "l.5=1"]
OVERRIDES += ["l.x=1", "b.c=1", "a=1", "a.b=x", "a.b=True", "a.b=[1]", "l=1", "l={x: 1}", "a[0=1", "+=1", "a.'b=1"]


@pytest.mark.parametrize("override", OVERRIDES)
def test_invalid_overrides(write: Write, override: str) -> None:
    cfg = Config.fromfile(write({"main.py": "_base_ = 'base.py'\n", **AROUND}))
    before = cfg.to_dict()
    with pytest.raises(OverrideError) as caught:
        apply_overrides(cfg, [override])
    assert len(str(caught.value).splitlines()) <= 5
    assert cfg.to_dict() == before
