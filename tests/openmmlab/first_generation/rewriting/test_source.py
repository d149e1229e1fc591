from pathlib import Path

import pytest

from footplate.errors import ConfigSyntaxError
from footplate.openmmlab.first_generation.rewriting.source import SourceFile


def test_two_statements_on_one_line_raise(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("a = 1\nb = 2; c = 3\n")
    with pytest.raises(ConfigSyntaxError, match="two statements on one line") as caught:
        SourceFile(tmp_path / "short.py")
    assert caught.value.origin is not None
    assert caught.value.origin.line == 2
