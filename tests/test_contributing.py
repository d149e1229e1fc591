"""What CONTRIBUTING.md shows works: the files of a new task, and no change elsewhere."""

import os
import re
import shutil
from pathlib import Path

from tests import programs
from tests.support import json_lines

ROOT = Path(__file__).parent.parent


def test_a_task_is_a_folder(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = re.findall(r'```python title="(.*?)"\n(.*?)```', text, re.DOTALL)
    assert [name for name, _ in files] == [
        "src/footplate_vision/counting/__init__.py",
        "src/footplate_vision/counting/counting.py",
        "src/footplate_vision/recipes/configs/dots.py",
    ]
    for name, content in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    command = ["-m", "footplate", "train", "dots", "--work-dir", "out"]
    done = programs.run(*command, folder=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = json_lines(next((tmp_path / "out").glob("*/vis_data/scalars.json")))
    assert lines[-1]["count/error"] < 0.5
    assert list((tmp_path / "out").glob("best_count_error_epoch_36.pth"))
