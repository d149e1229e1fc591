from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from footplate.hooks import RecordHook


@pytest.mark.parametrize("text", ["a = 1  # x.py:1\n", lambda: "a = 1  # x.py:1\n"])
def test_the_text_lies_in_the_folder_of_the_run(tmp_path: Path, text: Any) -> None:
    runner: Any = SimpleNamespace(log_dir=str(tmp_path))
    RecordHook("explained.txt", text).before_run(runner)
    assert (tmp_path / "explained.txt").read_text() == "a = 1  # x.py:1\n"
