import subprocess
import sys
from pathlib import Path

import pytest

from footplate.cli.output import wrap_for_screen, wrap_text
from tests.footplate.cli.conftest import environment

PRINTING = """\
import sys
from footplate import HOOKS, Hook

@HOOKS.register_module()
class Printing(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        print("iteration", runner.iter, flush=True)
        print("iteration", runner.iter, file=sys.stderr, flush=True)

"""


def shell(folder: Path, command: str) -> "subprocess.CompletedProcess[str]":
    """Runs a line of bash in which FOOTPLATE is the command, and returns the exit code of the command."""
    line = f"set -o pipefail; {command.replace('FOOTPLATE', f'{sys.executable} -m footplate')}"
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment(COLUMNS="100"), capture_output=True, text=True
    )


def test_run_completes_whatever_happens_to_its_streams(tiny: Path) -> None:
    (tiny.parent / "printing.py").write_text(PRINTING)
    hook = 'custom_imports["imports"] += ["printing"]\ncustom_hooks = [dict(type="Printing")]\n'
    tiny.write_text(tiny.read_text() + hook)
    done = shell(tiny.parent, "FOOTPLATE train tiny.py 2>&1 | head -n 1")
    assert done.returncode == 0, done.stderr
    work = tiny.parent / "work_dirs/tiny"
    assert (work / "last_checkpoint").read_text() == str(work / "iter_8.pth")
    assert "Traceback" not in done.stderr
    log = next(work.glob("*/*.log")).read_text()
    assert "iteration 7" not in log  # printed output must not end up in a file opened later
    assert "All further output to it is discarded" in log


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("FOOTPLATE recipes | true", 0, ""),
        ("FOOTPLATE recipes > /dev/full", 2, "error: cannot read or write: No space left on device\n"),
    ],
)
def test_command_without_a_reader_is_not_an_error(tiny: Path, command: str, code: int, says: str) -> None:
    """Buffered output is discarded after a failure; otherwise Python would fail again with another exit code."""
    done = shell(tiny.parent, command)
    assert (done.returncode, done.stderr) == (code, says)


HOOKS = "  before_train     RuntimeInfoHook (VERY_HIGH), LoggerHook (LOW)"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        (HOOKS, len(HOOKS), [HOOKS]),
        (
            HOOKS,
            len(HOOKS) - 1,
            ["  before_train     RuntimeInfoHook (VERY_HIGH), LoggerHook", "                   (LOW)"],
        ),
        ("val a data  " + "six " * 9, 40, ["val a data  " + ("six " * 7)[:-1], "            six six"]),
    ],
)
def test_continuation_is_indented_to_the_second_column(text: str, width: int, lines: list[str]) -> None:
    assert wrap_text(text, width).split("\n") == lines


@pytest.mark.parametrize(("is_screen", "lines"), [(True, 2), (False, 1)])
def test_only_screen_output_is_wrapped(monkeypatch: pytest.MonkeyPatch, is_screen: bool, lines: int) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_screen)
    assert wrap_for_screen("a " * 40).count("\n") + 1 == lines
