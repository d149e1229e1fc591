"""The guide `docs/config.md` tells the truth: its files are written, its commands run, its code is executed."""

import re
from pathlib import Path

import pytest

from footplate.cli.main import main

GUIDE = Path(__file__).parent.parent.parent / "docs" / "config.md"
BLOCK = re.compile(r'```(\w+)(?: title="([^"]+)")?\n(.*?)```', re.DOTALL)


def test_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    assert {language for language, _, _ in blocks} == {"python", "console"}
    for language, title, text in blocks:
        if title:
            Path(title).write_text(text)
        elif language == "python":
            exec(text, {})
        else:
            for session in text.split("$ footplate ")[1:]:
                command, _, expected = session.partition("\n")
                main(command.split())
                captured = capsys.readouterr()
                assert captured.out + captured.err == expected, command
