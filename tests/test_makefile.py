"""What `make` says; the environment is a stand-in that does nothing."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_setup_ends_with_how_to_activate_it(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / "python").symlink_to(str(shutil.which("true")))
    command = ["make", "--no-print-directory", "setup", "PYTHON=true", f"BIN={tmp_path}"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "ready: source .venv/bin/activate"
    assert (tmp_path / ".venv" / "ready").exists()
