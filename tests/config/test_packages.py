import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from footplate.config import Config
from footplate.errors import ConfigError

FILES = {
    "fp_pkg/__init__.py": "raise RuntimeError('imported')\n",
    "fp_pkg/.mim/configs/_base_/models/net.py": "model = dict(type='Net', head=dict(type='Head'), own=dict(x=1))\n",
    "fp_pkg/.mim/configs/_base_/runtime.py": "work_dir = 'x'\n",
    "fp_pkg/configs/new.py": "a = dict(b=1)\n",
    "fp_pkg-1.0.dist-info/METADATA": "Name: fp-distribution\nVersion: 1.0\n",
    "fp_pkg-1.0.dist-info/top_level.txt": "fp_pkg\n",
}


@pytest.fixture
def package(write: Callable[[Mapping[str, str]], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write(FILES).parent.parent
    (folder / "fp_pkg-1.0.dist-info").rename(folder / "fp_distribution-1.0.dist-info")
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.mark.parametrize("name", ["fp_pkg", "fp-distribution"])
def test_a_base_in_another_package_is_found_without_importing_it(package: Path, name: str) -> None:
    (package / "main.py").write_text(f"_base_ = ['{name}::_base_/models/net.py', '{name}::_base_/runtime.py']\n")
    cfg = Config.fromfile(package / "main.py")
    assert cfg.work_dir == "x"
    assert cfg.model == {
        "type": "Net",
        "head": {"type": "Head"},
        "own": {"x": 1},
        "_scope_": name,
    }
    assert "fp_pkg" not in sys.modules


def test_a_config_of_a_package_is_loaded_by_its_name(package: Path) -> None:
    assert Config.fromfile("fp_pkg::_base_/runtime.py").to_dict() == {"work_dir": "x"}


@pytest.mark.parametrize("module", ["fp_pkg.configs.new", "fp_pkg.configs._base_.runtime"])
def test_pure_python_bases_are_found_as_modules(package: Path, module: str) -> None:
    (package / "main.py").write_text(f"with read_base():\n    from {module} import *\n")
    assert len(Config.fromfile(package / "main.py")) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fp_nope::a.py", "the package 'fp_nope' of 'fp_nope::a.py' is not installed"),
        ("fp_pkg::nope.py", "the package 'fp_pkg' has no config 'nope.py'"),
        ("a/b::c.py", "is not installed"),
    ],
)
def test_what_is_not_there(package: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.fromfile(name)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("fp_pkg::_base_/runtme.py", "fp_pkg::_base_/runtime.py"),
        ("fp_pkg::_base_/model/net.py", None),
        ("footplate::fashion-sge", "footplate::fashion-seg.py"),
    ],
)
def test_the_nearest_config_of_a_package_is_named(package: Path, name: str, near: str | None) -> None:
    with pytest.raises(ConfigError, match="has no config") as caught:
        Config.fromfile(name)
    assert caught.value.suggestion == near


@pytest.mark.parametrize(
    ("base", "near"),
    [
        ("fashion-seg.py", "footplate::fashion-seg.py"),  # although a neighbour is called much alike
        ("fashion-seg", "footplate::fashion-seg.py"),
        ("../fashon-det.py", "footplate::fashion-det.py"),
        ("fashion-sge-mine.py", "fashion-seg-mine.py"),
        ("swin.py", None),
    ],
)
def test_a_recipe_that_is_named_as_a_file_is_a_base_under_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, near: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fashion-seg-mine.py").write_text(f"_base_ = '{base}'\n")
    with pytest.raises(ConfigError, match="no config file") as caught:
        Config.fromfile(tmp_path / "fashion-seg-mine.py")
    assert caught.value.suggestion == near
    tried = (tmp_path.parent if base.startswith("..") else tmp_path) / Path(base).name
    assert caught.value.notes == (f"a base begins at the folder of the config that names it; tried '{tried}'",)
    if near is not None and near.startswith("footplate"):
        assert Config.fromfile(near).model.type.startswith("Small")


def test_our_own_recipes_are_bases(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("_base_ = 'footplate::fashion-seg.py'\ntrain_cfg = dict(max_iters=275)\n")
    cfg = Config.fromfile(tmp_path / "mine.py")
    assert cfg.train_cfg.max_iters == 275
    assert cfg.model.type == "SmallSegmentor"
    named = Config.fromfile("footplate::fashion-seg.py")
    assert Config.fromfile("footplate::fashion-seg").to_dict() == named.to_dict()
