"""Packages that tests write and import, and the environment that the tests of second-generation code bases share."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from footplate.registry import DATASETS, METRICS, MODELS
from tests.footplate.cli.conftest import footplate  # noqa: F401 - a fixture
from tests.footplate_openmmlab.environment import COMMON, MMPRETRAIN, create_environment, write_scenes

collect_ignore = ["pixels.py"]  # a program that needs mmcv, which `test_pixels.py` runs
PACKAGES = [
    "mmcv-lite==2.1.0",
    "mmsegmentation==1.2.2",
    "mmdet==3.3.0",
    "ftfy",
    "prettytable",
    "shapely",
    "terminaltables",
]
WritePackage = Callable[[str, Mapping[str, str]], Path]


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with what all code bases import."""
    return _create_once(tmp_path_factory, "common", COMMON)


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory, common: str) -> str:
    """The interpreter of an environment with MMSegmentation, MMDetection and MMPretrain."""
    return _create_once(tmp_path_factory, "environment", [*PACKAGES, *MMPRETRAIN], common)


def _create_once(factory: pytest.TempPathFactory, name: str, packages: Sequence[str], *below: str) -> str:
    """Creates an environment once for all processes of xdist."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with FileLock(folder / f"{name}.lock"):
        if not (folder / f"{name}.complete").exists():
            create_environment(folder / name, packages, *below)
            (folder / f"{name}.complete").touch()
    return str(folder / name / "bin/python")


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
