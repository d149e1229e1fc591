import sys
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.errors import ConfigError, ConfigKeyError, ConfigSyntaxError, Origin
from tests.footplate.config.conftest import Write


def test_text_is_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes("\ufeffa = 'ü'\r\nb = 1\r\n".encode())
    assert Config.fromfile(tmp_path / "a.py").to_dict() == {"a": "ü", "b": 1}
    (tmp_path / "b.py").write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigSyntaxError, match="not valid UTF-8 at byte 11") as caught:
        Config.fromfile(tmp_path / "b.py")
    assert caught.value.origin == Origin(str(tmp_path / "b.py"), 2)


FILES = {
    "fp_pkg/__init__.py": "raise RuntimeError('imported')\n",
    "fp_pkg/.mim/configs/_base_/models/net.py": "model = dict(type='Net', head=dict(type='Head'), own=dict(x=1))\n",
    "fp_pkg/.mim/configs/_base_/old_data.py": "data = dict(train=dict(type='Old'))\n",
    "fp_pkg/.mim/configs/_base_/runtime.py": "work_dir = 'x'\n",
    "fp_pkg/configs/new.py": "a = dict(b=1)\n",
    "fp_pkg-1.0.dist-info/METADATA": "Name: fp-distribution\nVersion: 1.0\n",
    "fp_pkg-1.0.dist-info/top_level.txt": "fp_pkg\n",
}


@pytest.fixture
def package(write: Write, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write(FILES).parent.parent
    (folder / "fp_pkg-1.0.dist-info").rename(folder / "fp_distribution-1.0.dist-info")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_a_base_in_another_package_is_found_without_importing_it(package: Path) -> None:
    (package / "main.py").write_text("_base_ = ['fp_pkg::_base_/models/net.py', 'fp_pkg::_base_/runtime.py']\n")
    cfg = Config.fromfile(package / "main.py")
    assert cfg.work_dir == "x"
    assert cfg.model == {
        "type": "Net",
        "head": {"type": "Head"},
        "own": {"x": 1},
        "_scope_": "fp_pkg",
    }
    assert "fp_pkg" not in sys.modules


def test_first_generation_base_in_another_package_has_no_scopes(package: Path) -> None:
    (package / "main.py").write_text("_base_ = 'fp_pkg::_base_/old_data.py'\n")
    assert Config.fromfile(package / "main.py").to_dict() == {"data": {"train": {"type": "Old"}}}


@pytest.mark.parametrize("module", ["fp_pkg.configs.new", "fp_pkg.configs._base_.runtime"])
def test_pure_python_bases_are_found_as_modules(package: Path, module: str) -> None:
    (package / "main.py").write_text(f"with read_base():\n    from {module} import *\n")
    assert len(Config.fromfile(package / "main.py")) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fp_nope::a.py", "the config 'a.py' is in the package 'fp_nope', which is not installed"),
        ("fp_pkg::nope.py", "the package 'fp_pkg' has no config 'nope.py'"),
        ("a/b::c.py", "is not installed"),
        ("mmtrack::a.py", "is not installed\n  Install it: pip install 'footplate[hosts]' mmtrack"),
    ],
)
def test_missing_package_or_config_is_reported(package: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.fromfile(name)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("fp_pkg::_base_/runtme.py", "fp_pkg::_base_/runtime.py"),
        ("fp_pkg::other.py", None),
        ("footplate::fashion-sge", "footplate::fashion-seg.py"),
    ],
)
def test_nearest_config_of_a_package_is_suggested(package: Path, name: str, near: str | None) -> None:
    with pytest.raises(ConfigError, match="has no config") as caught:
        Config.fromfile(name)
    assert caught.value.suggestion == near


@pytest.mark.parametrize(
    ("base", "near"),
    [
        ("fashion-seg.py", "footplate::fashion-seg.py"),  # although a neighbour is called much alike
        ("fashion-sge-mine.py", "fashion-seg-mine.py"),
    ],
)
def test_missing_base_suggests_the_recipe_of_its_name(current_folder: Path, base: str, near: str | None) -> None:
    (current_folder / "fashion-seg-mine.py").write_text(f"_base_ = '{base}'\n")
    with pytest.raises(ConfigError, match="does not exist") as caught:
        Config.fromfile(current_folder / "fashion-seg-mine.py")
    assert caught.value.suggestion == near
    tried = (current_folder.parent if base.startswith("..") else current_folder) / Path(base).name
    assert caught.value.notes == (
        f"The path of a base is relative to the folder of the config that refers to it; tried '{tried}'.",
    )
    if near is not None and near.startswith("footplate"):
        assert Config.fromfile(near).model.type.startswith("Small")


BASE = "a = dict(b=1, l=[dict(x=5)])\ns = 'text'\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{_base_.a.b}} + 1", 2),
        ("{{ _base_.a.l.0.x }}", 5),
        ("'{{_base_.a.b}}'", 1),
        ("'<{{ _base_.s }}>'", "<text>"),
        ("f'{1 + 1}-{{_base_.s}}'", "2-text"),
        ("1  # {{ _base_.nope }}", 1),
    ],
)
def test_values_of_the_base(write: Write, text: str, value: Any) -> None:
    main = write({"main.py": f"_base_ = 'base.py'\nv = {text}\n", "base.py": BASE})
    assert Config.fromfile(main).to_dict()["v"] == value


@pytest.mark.parametrize(
    ("text", "value", "used"),
    [
        ("'{{$FP_NAME:default}}'", 'it\'s "x"', {"FP_NAME": 'it\'s "x"'}),
        ("'{{ $FP_NONE:some/path }}'", "some/path", {}),
        ("{{'$FP_NUMBER:3'}}", 12, {"FP_NUMBER": "12"}),
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
    with pytest.raises(ConfigKeyError, match="'FP_NONE' is not set, and its placeholder has no default") as caught:
        Config.fromfile(main)
    assert caught.value.origin == Origin(str(main), 2)
