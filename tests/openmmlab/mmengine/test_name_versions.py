"""The script that finds which versions of MMEngine have which names."""

import zipfile
from pathlib import Path

import pytest

from scripts.mmengine_names import module_names, unknown_names

FILES = {
    "__init__": "from .mine import *\nfrom .mine.deep import Inner as Renamed\nfrom mmengine import mine\n",
    "mine/__init__": "import os\nfrom torch import nn\nfrom .deep import Inner, _private\nVALUE: int = 1\n",
    "mine/deep": "try:\n    import apex\nexcept ImportError:\n    apex = None\n"
    "if True:\n    class Inner: ...\n    def _private(): ...\nfirst, second = 1, 2\n",
}


def test_names_of_a_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "mmengine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"mmengine/{name}.py", text)
        archive.writestr("mmengine/.mim/tools/train.py", "hidden = 1\n")
    assert module_names(wheel) == {
        "mmengine": {"Inner", "VALUE", "Renamed"},
        "mmengine.mine": {"Inner", "VALUE"},
        "mmengine.mine.deep": {"Inner", "first", "second"},
    }


def test_versions_of_names_and_modules() -> None:
    versions = {
        "1.0": {"mmengine.runner": {"Runner"}, "mmengine.one": {"gone", "moved"}},
        "1.1": {"mmengine.runner": {"Runner", "moved"}, "mmengine.one": {"moved", "short"}},
        "1.2": {"mmengine.runner": {"Runner", "moved"}, "mmengine.runner.new": {"late"}},
    }
    assert unknown_names(versions) == {
        "1.0": "gone",
        "from 1.0 to 1.1": "mmengine.one",
        "since 1.0": "moved",
        "1.1": "short",
        "since 1.2": "late mmengine.runner.new",
    }
    with pytest.raises(SystemExit, match="'gone' is only in some of the versions from 1.0 to 1.2"):
        unknown_names({**versions, "1.2": {"mmengine.one": {"gone"}}})
