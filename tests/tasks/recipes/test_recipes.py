import subprocess
import sys
from pathlib import Path

import pytest

from footplate.config import Config
from footplate.config.sources import find_config
from footplate.errors import ConfigError
from footplate.tasks.recipes import recipes


def test_recipes_have_names_and_summaries() -> None:
    found = recipes()
    assert "fashion-seg" in [recipe.name for recipe in found]
    assert all(recipe.summary and recipe.path.is_file() for recipe in found)
    assert [recipe.name for recipe in found] == sorted(recipe.name for recipe in found)


def test_find_config_by_name_or_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.touch()
    assert find_config(str(path)) == str(path)
    assert Path(find_config("fashion-seg")).name == "fashion-seg.py"


def test_misspelt_name_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    with pytest.raises(ConfigError, match="did you mean 'fashion-seg'"):
        Config.fromfile("fashion-sge")
    with pytest.raises(ConfigError, match="did you mean '.*mine.py'"):
        Config.fromfile(tmp_path / "mime.py")


def test_listing_recipes_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, footplate.tasks.recipes as r; r.recipes(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
