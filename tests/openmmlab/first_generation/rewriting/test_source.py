from pathlib import Path

import pytest

from footplate.errors import ConfigSyntaxError, MissingExtraError
from footplate.openmmlab.first_generation.rewriting.source import SourceFile


def test_syntax_error_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("a = 1\nb = (\n")
    with pytest.raises(ConfigSyntaxError) as caught:
        SourceFile(tmp_path / "bad.py")
    assert caught.value.origin is not None
    assert caught.value.origin.line >= 2


def test_missing_libcst_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate.openmmlab.first_generation.rewriting.source.cst", None)
    (tmp_path / "a.py").write_text("a = 1\n")
    with pytest.raises(MissingExtraError, match="rewriting config files needs the package 'libcst'"):
        SourceFile(tmp_path / "a.py")
