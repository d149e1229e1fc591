import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate.compat.finding import NamesFinder, resolve
from footplate.registry import HOOKS


@pytest.fixture
def finder() -> Iterator[NamesFinder]:
    finder = NamesFinder(["mmcv"])
    sys.meta_path.append(finder)
    yield finder
    sys.meta_path.remove(finder)
    for title in [title for title in sys.modules if title.partition(".")[0] == "mmcv"]:
        del sys.modules[title]


def test_a_target_is_what_its_module_has_under_its_name() -> None:
    assert resolve("footplate.registry:HOOKS") is HOOKS


@pytest.mark.parametrize("title", ["mmengine", "mmengine.hooks", "mmcv.ops", "json"])
def test_others_are_left_to_others(finder: NamesFinder, title: str) -> None:
    assert finder.find_spec(title) is None


def test_a_module_is_made_and_its_names_are_looked_up_when_used(finder: NamesFinder) -> None:
    module = importlib.import_module("mmcv.runner")
    assert "HOOKS" not in vars(module)
    assert module.HOOKS is HOOKS
    assert vars(module)["HOOKS"] is HOOKS
    assert "HOOKS" in dir(module)
    assert "HOOKS" in module.__all__


def test_what_there_is_not_is_said_with_the_nearest_name(finder: NamesFinder) -> None:
    module = importlib.import_module("mmcv.runner")
    with pytest.raises(AttributeError, match="footplate has nothing for 'mmcv.runner.HOOK'"):
        _ = module.HOOK


def test_folders_of_that_name_on_the_path_hold_further_modules(
    finder: NamesFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mmcv/runner").mkdir(parents=True)
    (tmp_path / "mmcv/runner/mine.py").write_text("value = 5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.import_module("mmcv.runner.mine").value == 5
