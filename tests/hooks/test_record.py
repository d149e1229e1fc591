from pathlib import Path
from types import SimpleNamespace
from typing import Any

from footplate.hooks import RecordHook


def test_the_text_lies_in_the_folder_of_the_run(tmp_path: Path) -> None:
    runner: Any = SimpleNamespace(log_dir=str(tmp_path))
    RecordHook("explained.txt", "a = 1  # x.py:1\n").before_run(runner)
    assert (tmp_path / "explained.txt").read_text() == "a = 1  # x.py:1\n"
