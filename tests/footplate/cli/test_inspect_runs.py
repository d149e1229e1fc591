import json
import os
from pathlib import Path

import pytest

from tests.footplate.cli.conftest import Command


def test_a_device_is_not_replaced(tmp_path: Path, footplate: Command) -> None:
    (tmp_path / "scalars.json").write_text('{"loss": 1, "step": 1}\n')
    page = tmp_path / "page.html"
    os.mkfifo(page)
    code, _, errors = footplate("report", tmp_path, "-o", page)
    assert (code, errors) == (2, f"error: cannot use '{page}': it is a folder or a device\n")


def test_only_pages_are_written_and_no_input_is_replaced(tmp_path: Path, footplate: Command) -> None:
    scalars = tmp_path / "scalars.json"
    scalars.write_text('{"loss": 1, "step": 1}\n')
    (tmp_path / "link.html").symlink_to(scalars)
    code, _, errors = footplate("report", scalars, "-o", tmp_path / "link.html")
    assert (code, "must not be an input" in errors) == (2, True)
    code, _, errors = footplate("report", scalars, "-o", tmp_path / "page.pdf")
    assert (code, errors.splitlines()[0]) == (2, "error: the output file name must end in .html or .htm")
    (tmp_path / "page.html").hardlink_to(scalars)
    code, _, _ = footplate("report", scalars, "-o", tmp_path / "page.html")  # replaces the link, not the file
    assert code == 0
    assert scalars.read_text() == '{"loss": 1, "step": 1}\n'


def test_report_of_a_run_is_written(trained: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    code, text, _ = footplate("report", "run")
    assert (code, text.split(",")[0]) == (0, "run/report.html")
    page = Path("run/report.html").read_text()
    assert "<title>footplate: run</title>" in page
    assert "tiny.py:" in page  # the origin of the config keys
    assert footplate("report", "run", "run", "run/report.html", "-o", "run/report.html")[0] == 0


def test_environment_has_a_line_per_fact(footplate: Command) -> None:
    code, text, _ = footplate("env")
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("torch threads"))
    data = json.loads(footplate("env", "--json")[1])
    assert facts["python"] == data["python"]
    assert facts["footplate"] == data["packages"]["footplate"]
