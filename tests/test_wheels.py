"""Tests of the wheels and the source archives."""

import ast
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.metadata import Metadata

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "footplate": {"footplate", "footplate_openmmlab", "footplate_vision"},
    "footplate_operators": {"footplate_operators"},
}


def _wheel(project: Path, folder: Path) -> Path:
    return Path(next(WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"])))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    return {path.name.split("-")[0]: path for path in (_wheel(ROOT, folder), _wheel(ROOT / "operators", folder))}


def _metadata(wheel: Path) -> Metadata:
    with ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Metadata.from_email(archive.read(name))


@pytest.mark.parametrize("name", MODULES)
def test_a_wheel_contains_its_packages_and_nothing_else(wheels: dict[str, Path], name: str) -> None:
    with ZipFile(wheels[name]) as archive:
        assert archive.testzip() is None
        files = {each.filename: each.file_size for each in archive.infolist() if ".dist-info/" not in each.filename}
        licence = next(each for each in archive.namelist() if each.endswith("/licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    source = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.is_file()}
    source = {path for path in source if path.split("/")[0] in MODULES[name] and "__pycache__" not in path}
    assert set(files) == source
    assert max(files.values()) < 500_000
    assert wheels[name].stat().st_size < 2_000_000


def test_the_operators_are_a_requirement_not_a_copy(wheels: dict[str, Path]) -> None:
    contents = [set(ZipFile(path).namelist()) for path in wheels.values()]
    assert not contents[0] & contents[1]
    operators = _metadata(wheels["footplate_operators"])
    required = [str(each) for each in _metadata(wheels["footplate"]).requires_dist or () if not each.marker]
    assert f"footplate-operators=={operators.version}" in required
    assert operators.version == _metadata(wheels["footplate"]).version


def test_the_operators_and_their_tests_need_torch_and_numpy_alone() -> None:
    files = [*(ROOT / "src/footplate_operators").rglob("*.py"), *(ROOT / "tests/footplate_operators").rglob("*.py")]
    imported: set[str] = set()
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            imported.add(node.module.partition(".")[0])
    assert imported - sys.stdlib_module_names == {"footplate_operators", "numpy", "pytest", "torch"}


def test_an_editable_installation_requires_no_other_wheel(tmp_path: Path) -> None:
    wheel = Path(next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["editable"])))
    assert "footplate-operators" not in {each.name for each in _metadata(wheel).requires_dist or ()}
    with ZipFile(wheel) as archive:
        assert archive.read("_footplate.pth").decode().split() == [str(ROOT / "src")]


@pytest.mark.parametrize("name", MODULES)
def test_a_source_archive_builds_the_same_wheel(
    wheels: dict[str, Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = ROOT / "operators" if name == "footplate_operators" else ROOT
    archive = Path(next(SdistBuilder(str(project)).build(directory=str(tmp_path))))
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    assert not {"tests", "docs", "benchmarks", "examples"} & {path.name for path in unpacked.iterdir()}
    assert _wheel(unpacked, tmp_path / "built").read_bytes() == wheels[name].read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    again = [_wheel(unpacked, tmp_path / folder).read_bytes() for folder in ("first", "second")]
    assert again[0] == again[1] != wheels[name].read_bytes()
