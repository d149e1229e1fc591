import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate.hosts.finder import NamesFinder, resolve
from footplate.registry import HOOKS


@pytest.fixture
def finder() -> Iterator[NamesFinder]:
    finder = NamesFinder(["mmcv"])
    sys.meta_path.append(finder)
    yield finder
    sys.meta_path.remove(finder)
    for title in [title for title in sys.modules if title.partition(".")[0] == "mmcv"]:
        del sys.modules[title]


def test_resolve() -> None:
    assert resolve("footplate.registry:HOOKS") is HOOKS


@pytest.mark.parametrize("title", ["mmengine", "mmengine.hooks", "mmcv.ops", "json"])
def test_other_modules_are_not_found(finder: NamesFinder, title: str) -> None:
    assert finder.find_spec(title) is None


def test_names_are_imported_on_first_access(finder: NamesFinder) -> None:
    module = importlib.import_module("mmcv.runner")
    assert "HOOKS" not in vars(module)
    assert module.HOOKS is HOOKS
    assert vars(module)["HOOKS"] is HOOKS
    assert "HOOKS" in dir(module)
    assert "HOOKS" in module.__all__


def test_unknown_name_suggests_the_nearest(finder: NamesFinder) -> None:
    module = importlib.import_module("mmcv.runner")
    with pytest.raises(AttributeError, match="footplate has no counterpart for 'mmcv.runner.HOOK'"):
        _ = module.HOOK


def test_user_modules_in_folders_of_the_same_name_are_found(
    finder: NamesFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mmcv/runner").mkdir(parents=True)
    (tmp_path / "mmcv/runner/mine.py").write_text("value = 5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.import_module("mmcv.runner.mine").value == 5
