"""Runs the notebooks that the site shows, and checks the outputs that are stored in them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS, ROOT
from tests.footplate_openmmlab.environment import COMMON, ENVIRONMENT, create_environment

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
MMSEG = ["mmcv-lite==2.1.0", "mmsegmentation==1.2.2", "ftfy", "prettytable"]


def _cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def _text(cells: list[dict[str, Any]]) -> str:
    return "".join("".join(output.get("text", "")) for cell in cells for output in cell["outputs"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_installs_first_and_shows_what_it_prints(path: Path) -> None:
    first, *others = _cells(path)
    assert first["metadata"]["tags"] == ["install"]
    assert [cell["execution_count"] for cell in others] == list(range(1, len(others) + 1)), "run scripts/notebooks.py"
    shown = _text(others)
    assert "Traceback" not in shown
    assert "error:" not in shown
    assert "\x1b[2K" not in shown  # a line that is drawn again
    for private in (str(ROOT), "/tmp/", "/root", "/home"):
        assert private not in shown
    assert path.stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed")
    from scripts.notebooks import execute

    python = sys.executable
    if path.stem == "published-config":
        python = create_environment(tmp_path / "environment", [*COMMON, *MMSEG])
        monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    (tmp_path / "run").mkdir()
    cells = [cell for cell in execute(path, tmp_path / "run", python).cells if cell.cell_type == "code"]
    shown = _text(cells)
    assert "error:" not in shown
    expected = {
        "own-images": ("mIoU", "Saved the best", "images", "probabilities"),
        "plain-pytorch": ("0.9", "True"),
        "published-config": ("complete", "mDice"),
    }
    assert [text for text in expected[path.stem] if text not in shown] == []
