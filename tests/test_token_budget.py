"""Tests the budgets of code tokens."""

import subprocess
import sys
from pathlib import Path

from scripts import token_budget

SOURCE = '''"""A module."""

def double(value):  # a comment
    """Doubles
    a value."""
    return f"{value + value} of {f'{value}'}"
'''


def test_a_package_over_its_budget_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.py").write_text(SOURCE)
    (tmp_path / "pyproject.toml").write_text("[tool.footplate.budget]\none = 8\n")
    command = [sys.executable, token_budget.__file__]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["one", "8", "of", "8", "code", "tokens"], "")
    (tmp_path / "pyproject.toml").write_text("[tool.footplate.budget]\none = 7\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            "error: one has 8 code tokens, and its budget is 7",
            "  Remove code, or raise the budget in pyproject.toml, with the reason in a comment on the same line.",
        ],
    )
