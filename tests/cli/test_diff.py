from pathlib import Path

import pytest

from footplate.cli.main import main


def test_differences_are_printed_and_told_by_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("a = 1\ncustom_imports = dict(imports=['fp_nope'])\n")
    Path("b.yaml").write_text("custom_imports: {imports: [fp_nope]}\na: 1\n")
    Path("c.py").write_text("_base_ = 'a.py'\na = 2\n")
    assert main(["diff", "a.py", "b.yaml"]) == 0
    assert capsys.readouterr().out == "the configs mean the same\n"
    assert main(["diff", "a.py", "c.py"]) == 1
    assert capsys.readouterr().out == "a\n  - 1  a.py:1\n  + 2  c.py:2\n"
    assert main(["diff", "a.py", "nope.py"]) == 2
