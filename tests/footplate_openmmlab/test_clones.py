"""Tests folders such as `mmdetection3d`, which research code has next to its own packages."""

import os
from pathlib import Path

import pytest

from footplate.config import Config
from footplate.errors import ConfigError
from tests import programs
from tests.footplate.cli.conftest import environment
from tests.footplate_openmmlab.conftest import WritePackage


def test_a_clone_in_the_current_folder_precedes_an_installed_package(tmp_path: Path) -> None:
    for file, text in {
        "installed/mmdet3d/__init__.py": "raise ImportError",
        "project/mmdetection3d/mmdet3d/__init__.py": "__version__ = '0.17.1'\nmmcv_maximum_version = '1.4.0'\n",
        "project/mmdetection3d/mmdet3d.egg-info/PKG-INFO": "Name: mmdet3d\nVersion: 0.17.1\n",  # as in its archive
        "project/mmdetection3d/projects/__init__.py": "raise ImportError",
        "project/mmcv/mmcv/__init__.py": "raise ImportError",  # runs use the mmcv that is installed
        "project/projects/__init__.py": "",
        "project/tools/script.py": "import mmcv, mmdet3d, projects\nprint(mmdet3d.__version__)\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    project = tmp_path / "project"
    paths = f"{tmp_path / 'installed'}{os.pathsep}{environment()['PYTHONPATH']}"
    for words, output in (
        (["doctor", "mmdet3d"], f"complete\n    a copy in {project / 'mmdetection3d' / 'mmdet3d'}\n"),
        (["run", "tools/script.py"], "0.17.1\n"),
    ):
        done = programs.run("-m", "footplate", *words, folder=project, environment=environment(PYTHONPATH=paths))
        assert done.stdout.endswith(output), done.stderr


def test_a_base_in_a_clone_that_is_missing_is_read_from_the_package(package: WritePackage, tmp_path: Path) -> None:
    config = tmp_path / "project" / "config.py"
    config.parent.mkdir()

    def level(base: str) -> str:
        config.write_text(f"_base_ = '{base}'\n")
        return str(Config.fromfile(config).log_level)

    missing = "/data/mmdetection3d/configs/_base_/default_runtime.py"
    with pytest.raises(ConfigError, match="in the package 'mmdet3d', which is not installed"):
        level(missing)
    package("mmdet3d", {".mim/configs/_base_/default_runtime": "log_level = 'INFO'\n"})
    assert level(missing) == "INFO"
    (tmp_path / "mmdetection3d/configs/_base_").mkdir(parents=True)
    (tmp_path / "mmdetection3d/configs/_base_/default_runtime.py").write_text("log_level = 'DEBUG'\n")
    assert level("../mmdetection3d/configs/_base_/default_runtime.py") == "DEBUG"
    with pytest.raises(ConfigError, match="the package 'mmdet3d' has no config 'bases.py'"):
        level("../mmdetection3d/configs/bases.py")
    with pytest.raises(ConfigError, match="own/configs/base.py' does not exist"):
        level("../own/configs/base.py")
