import json
import re
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from footplate.cli.main import main
from footplate.errors import UnknownNameError
from footplate.registry import MODELS
from footplate_openmmlab.code_bases import named_code_bases
from footplate_openmmlab.requirements import NEWEST_TESTED, explain_unmet, extra_of
from tests.footplate_openmmlab.conftest import WritePackage

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def write_metadata(folder: Path, name: str, version: str, lines: list[str]) -> None:
    """Writes what pip writes about an installed package."""
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("\n".join([f"Name: {name}", f"Version: {version}", *lines]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, with the extras in pyproject.toml."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = {
        name: texts
        for name, texts in project["optional-dependencies"].items()
        if name.startswith(("mm", "hosts", "models"))
    }
    lines = [f"Classifier: {text}" for text in project["classifiers"]]
    lines += [f"Requires-Dist: {text}" for text in project["dependencies"]]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {text} ; extra == '{extra}'" for extra in extras for text in extras[extra]]
    write_metadata(tmp_path, "footplate", "0.1.0", lines)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_everything_missing_is_listed_with_one_command(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_metadata(site, "mmsegmentation", "1.2.2", ["Requires-Dist: prettytable", "Requires-Dist: no-such>=2"])
    write_metadata(site, "prettytable", "3.0", [])
    write_metadata(site, "mmcv_lite", "1.7.2", [])
    write_metadata(site, "regex", "1.0", [])
    assert main(["doctor", "mmseg"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=2) == [
        "mmseg",
        "1.2.2",
        "Missing or unsuitable: ftfy, mmcv-lite<2.3,>=2.1 (1.7.2 is installed), mmengine>=0.10, no-such>=2.",
    ]
    assert lines[1] == "    Run: pip install ftfy 'mmcv-lite<2.3,>=2.1' 'mmengine>=0.10' 'no-such>=2'"


def test_a_code_base_is_installed_alone_if_its_own_requirements_cannot_be(site: Path) -> None:
    write_metadata(site, "mmdet3d", "1.1.0", [])
    missing, command = explain_unmet("mmdet3d0")
    assert "mmdet3d<1.1,>=1.0.0rc0 (1.1.0 is installed)" in missing
    assert command.endswith(" && pip install --no-deps --no-build-isolation 'mmdet3d>=1.0.0rc0,<1.1'")


def test_a_module_that_cannot_be_imported_does_not_stop_a_code_base(
    package: WritePackage, site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("footplate_openmmlab.installation.is_user_module", lambda name: False)
    write_metadata(site, "mmtrack", "1.0", [])
    model = "from mmengine.registry import MODELS\n@MODELS.register_module()\nclass Good: ...\n"
    heads = "from .lost import Lost\nfrom .good import Good\n__all__ = ['Lost', 'Good']\n"
    package("mmtrack", {"__init__": "from .heads import *", "heads/__init__": heads, "heads/good": model})
    assert main(["doctor", "mmtrack", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert [remark.partition(" (")[0] for remark in row["remarks"]] == [
        "installed, but incomplete",
        "Cannot import Lost: ModuleNotFoundError: No module named 'mmtrack.heads.lost'",
    ]
    assert MODELS.get("Good").__name__ == "Good"
    with pytest.raises(UnknownNameError, match="could not be imported. ModuleNotFoundError"):
        MODELS.get("Lost")


def test_a_code_base_that_another_one_requires_in_a_newer_version_is_suitable(site: Path) -> None:
    write_metadata(site, "mmcls", "1.0.0rc6", [])
    assert extra_of("mmcls") == "mmselfsup"
    assert not [line for line in explain_unmet(extra_of("mmcls")) if "mmcls" in line]


def test_versions_outside_of_the_tested_ones_are_listed(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.__version__", "2.99.1+cpu")
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    write_metadata(site, "numpy", "1.20", [])
    write_metadata(site, "timm", "0.1", [])
    assert main(["doctor", "--json"]) == 2
    footplate, python, torch, numpy, *extras = json.loads(capsys.readouterr().out)
    assert footplate["problems"] == [
        "Missing or unsuitable: numpy>=1.26 (1.20 is installed).",
        "Run: pip install 'numpy>=1.26'",
    ]
    assert python["remarks"] == ["Not tested: footplate is tested with Python 3.10 to 3.13."]
    assert torch["remarks"] == [f"Not tested: the newest tested version is {NEWEST_TESTED['torch']}."]
    assert numpy["remarks"] == []
    (models,) = (row["remarks"] for row in extras if row["name"] == "models")
    assert models[0].startswith("Optional. Missing or unsuitable: ")


@pytest.mark.parametrize(
    ("versions", "problems"),
    [
        (("4.12.0.88", "4.12.0.88"), []),
        (
            ("4.11.0.86", "5.0.0.93"),
            [
                "opencv-python 4.11.0.86 and opencv-python-headless 5.0.0.93 overwrite each other's files.",
                "Run: pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python==5.0.0.93 "
                "opencv-python-headless==5.0.0.93",
            ],
        ),
        (
            ("4.10.0.84", "4.10.0.84"),
            [
                "Missing or unsuitable: opencv-python-headless>=4.11 (4.10.0.84 is installed).",
                "Run: pip install 'opencv-python-headless>=4.11'",
            ],
        ),
    ],
)
def test_packages_of_opencv_need_the_same_version(
    site: Path, capsys: pytest.CaptureFixture[str], versions: tuple[str, str], problems: list[str]
) -> None:
    for name, version in zip(("opencv_python", "opencv_python_headless"), versions, strict=True):
        write_metadata(site, name, version, [])
    main(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["problems"] == problems


@pytest.mark.parametrize("name", NEWEST_TESTED)
def test_the_versions_of_the_constraints_are_tested(name: str) -> None:
    pins = re.findall(rf"^{name}==([\d.]+)", Path("constraints.txt").read_text(), re.MULTILINE)
    assert max(map(Version, pins)) <= Version(NEWEST_TESTED[name])


def test_doctor_finds_the_code_base_of_a_first_generation_config(
    site: Path, package: WritePackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "old.py"
    config.write_text("model = dict(type='OldDetector')\nrunner = dict(type='EpochBasedRunner', max_epochs=1)\n")
    assert main(["doctor", str(config)]) == 2
    assert "does not refer to a code base in default_scope or in a type" in capsys.readouterr().err
    package("mmdet", {"__init__": "mmcv_maximum_version = '1.8.0'\n", "models/__init__": "class OldDetector: pass\n"})
    write_metadata(site, "mmdet", "2.28.2", ["Requires-Dist: a-package-that-nobody-has"])
    assert main(["doctor", str(config)]) == 2
    assert "a-package-that-nobody-has" in capsys.readouterr().out


def test_a_model_of_a_plugin_belongs_to_the_code_base_that_builds_on_the_others(package: WritePackage) -> None:
    limit = "mmcv_maximum_version = '1.8.0'\n"
    package("mmdet", {"__init__": limit, "models/__init__": "class Neck: ...\nclass Head: ...\nclass Loss: ...\n"})
    package("mmdet3d", {"__init__": f"{limit}import mmdet\n", "datasets/__init__": "class ObjectRangeFilter: ...\n"})
    parts = {"neck": {"type": "Neck"}, "head": {"type": "Head"}, "loss": {"type": "Loss"}}
    config = {"model": {"type": "OfAPlugin", **parts}, "data": {}, "runner": {"type": "EpochBasedRunner"}}
    assert named_code_bases({**config, "data": {"train": {}}}) == ["mmdet"]
    filters = {"train": {"pipeline": [{"type": "ObjectRangeFilter"}]}}
    assert named_code_bases({**config, "data": filters}) == ["mmdet3d"]
    # The plugin's model may have the name of a part of the other code bases.
    assert named_code_bases({**config, "model": {"type": "Neck"}, "data": filters}) == ["mmdet3d"]


def test_doctor_finds_the_code_bases_that_a_plugin_imports(
    site: Path,
    package: WritePackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    package(
        "plugin", {"heads": "import mmdet\nfrom mmdet3d.core import boxes\n", "__init__": "raise ValueError('broken')"}
    )
    config = tmp_path / "bev.py"
    config.write_text("plugin = True\nplugin_dir = 'plugin/'\nmodel = dict(type='A')\ntotal_epochs = 1\n")
    assert main(["doctor", str(config)]) == 2
    assert capsys.readouterr().out.splitlines() == [
        "mmdet3d0                    It is not installed.",
        "    Install it: pip install 'footplate[mmdet3d0]' && "
        "pip install --no-deps --no-build-isolation 'mmdet3d>=1.0.0rc0,<1.1'",
    ]
    (tmp_path / "plugin/heads.py").unlink()
    assert main(["doctor", str(config)]) == 2
    assert capsys.readouterr().out.startswith("plugin")


def test_doctor_accepts_a_copy_of_a_code_base(
    package: WritePackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package("mmdet", {"__init__": "__version__ = '2.28.2'\nmmcv_maximum_version = '1.8.0'\n"})
    assert main(["doctor", "mmdet", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["version"], row["remarks"]) == ("2.28.2", ["complete", f"a copy in {tmp_path / 'mmdet'}"])


def test_doctor_imports_the_modules_of_a_config(
    site: Path,
    package: WritePackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package("mmdet", {"__init__": "mmcv_maximum_version = '1.8.0'\n", "models/__init__": "class OldDetector: pass\n"})
    write_metadata(site, "mmdet", "2.28.2", [])
    write_metadata(site, "mmcv-lite", "2.2.0", [])
    write_metadata(site, "mmengine", "0.10.7", [])
    (site / "own_necks.py").write_text("import a_package_that_nobody_has\n")
    config = tmp_path / "mine.py"
    config.write_text("default_scope = 'mmdet'\ncustom_imports = dict(imports=['own_necks'])\n")
    assert main(["doctor", str(config)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["mmdet", "2.28.2", "complete"]
    assert lines[1].startswith("custom_imports")
    assert "a_package_that_nobody_has" in "".join(lines[1:])
    (site / "own_necks.py").write_text("")
    assert main(["doctor", str(config)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["custom_imports", "complete"]
    monkeypatch.setattr("footplate_openmmlab.skipped_imports.missing", {})
    monkeypatch.chdir(tmp_path)
    package("heads_of_mine", {"__init__": "import a_package_that_nobody_has\n"})
    config.write_text("default_scope = 'mmdet'\ncustom_imports = dict(imports=['heads_of_mine'])\n")
    assert main(["doctor", str(config)]) == 0
    last = capsys.readouterr().out.splitlines()[-1].strip()
    text = "a_package_that_nobody_has (heads_of_mine/__init__.py)"
    assert last == f"Not installed, which is an error only where they are used: {text}"
