from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.errors import ConfigKeyError, Origin

Write = Callable[[Mapping[str, str]], Path]

BASE = "a = dict(b=1, l=[dict(x=5)])\ns = 'text'\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'{{ fileBasename }}'", "main.py"),
        ("'{{fileBasenameNoExtension}}'", "main"),
        ("'x{{ fileExtname }}'", "x.py"),
        ("'{{unknown}}'", "{{unknown}}"),
    ],
)
def test_predefined_names(write: Write, text: str, value: str) -> None:
    assert Config.fromfile(write({"main.py": f"v = {text}\n"})).v == value


def test_folder_of_the_file_is_absolute(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    main = write({"main.py": "v = '{{ fileDirname }}'\n"})
    monkeypatch.chdir(main.parent)
    assert main.parent.as_posix() == Config.fromfile("main.py").v


def test_predefined_names_can_be_left_alone(write: Write) -> None:
    main = write({"main.py": "v = '{{ fileBasename }}'\n"})
    assert Config.fromfile(main, use_predefined_variables=False).v == "{{ fileBasename }}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{_base_.a.b}} + 1", 2),
        ("{{ _base_.a }}", {"b": 1, "l": [{"x": 5}]}),
        ("{{ _base_.a.l.0.x }}", 5),
        ("'{{_base_.a.b}}'", 1),
        ("'<{{ _base_.s }}>'", "<text>"),
        ("f'{1 + 1}-{{_base_.s}}'", "2-text"),
        ("dict(k={{_base_.s}})", {"k": "text"}),
        ("1  # {{ _base_.nope }}", 1),
    ],
)
def test_values_of_the_base(write: Write, text: str, value: Any) -> None:
    main = write({"main.py": f"_base_ = 'base.py'\nv = {text}\n", "base.py": BASE})
    assert Config.fromfile(main).to_dict()["v"] == value


def test_missing_value_of_the_base_names_line_and_nearest_key(write: Write) -> None:
    main = write({"main.py": "_base_ = 'base.py'\nv = 1\nw = {{ _base_.ss }}\n", "base.py": "sss = 1\n"})
    with pytest.raises(ConfigKeyError, match="the base has no 'ss'") as caught:
        Config.fromfile(main)
    assert caught.value.origin == Origin(str(main), 3)
    assert caught.value.suggestion == "sss"


@pytest.mark.parametrize(
    ("text", "value", "used"),
    [
        ("'{{$FP_NAME:default}}'", 'it\'s "x"', {"FP_NAME": 'it\'s "x"'}),
        ("'{{ $FP_NONE:some/path }}'", "some/path", {}),
        ("{{'$FP_NUMBER:3'}}", 12, {"FP_NUMBER": "12"}),
        ("{{'$FP_NONE:3e-1'}}", 0.3, {}),
        ("{{'$FP_NONE:[1, a]'}}", [1, "a"], {}),
    ],
)
def test_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch, text: str, value: Any, used: dict[str, str]
) -> None:
    monkeypatch.setenv("FP_NAME", 'it\'s "x"')
    monkeypatch.setenv("FP_NUMBER", "12")
    cfg = Config.fromfile(write({"main.py": f"v = {text}\n"}))
    assert (cfg.v, cfg.env_variables) == (value, used)


@pytest.mark.parametrize("text", ["{{$FP_NONE:}}", "{{$FP_NONE}}"])
def test_environment_variable_without_default_must_be_set(write: Write, text: str) -> None:
    main = write({"main.py": f"\nv = '{text}'\n"})
    with pytest.raises(ConfigKeyError, match="'FP_NONE' is not set and has no default") as caught:
        Config.fromfile(main)
    assert caught.value.origin == Origin(str(main), 2)


def test_environment_can_be_left_alone(write: Write) -> None:
    main = write({"main.py": "v = '{{$FP_NAME:x}}'\n"})
    assert Config.fromfile(main, use_environment_variables=False).v == "{{$FP_NAME:x}}"
