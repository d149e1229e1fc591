"""Packages that tests write and import, and the environment that the tests of second-generation code bases share."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from filelock import FileLock

from footplate.registry import DATASETS, METRICS, MODELS
from tests.footplate.cli.conftest import footplate  # noqa: F401 - a fixture
from tests.footplate_openmmlab.environment import COMMON, MMPRETRAIN, create_environment, write_scenes

PACKAGES = ["mmcv-lite==2.1.0", "mmsegmentation==1.2.2", "mmdet==3.3.0", "ftfy", "wcwidth", "regex", "prettytable"]
PACKAGES += ["pycocotools", "shapely", "terminaltables", "scipy"]
WritePackage = Callable[[str, Mapping[str, str]], Path]


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with MMSegmentation, MMDetection and MMPretrain, for all processes of xdist."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with FileLock(folder / "environment.lock"):
        if not (folder / "complete").exists():
            create_environment(folder / "environment", [*PACKAGES, *MMPRETRAIN, *COMMON])
            (folder / "complete").touch()
    return str(folder / "environment/bin/python")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A folder with pictures, label maps, boxes and folders of classes."""
    write_scenes(tmp_path)
    return tmp_path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritePackage]:
    """Writes the modules of a package, `__init__` among them, that can be imported until the test ends."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"mmcv", "mmseg"}

    def write(name: str, modules: Mapping[str, str]) -> Path:
        names.add(name)
        for module, code in {"__init__": "", **modules}.items():
            file = tmp_path / name / f"{module}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
        return tmp_path / name

    yield write
    for title in [title for title in sys.modules if title.partition(".")[0] in names]:
        del sys.modules[title]
    for registry in (DATASETS, METRICS, MODELS):
        for name in names:
            registry.children.pop(name, None)
