import subprocess
import sys
from pathlib import Path

import pytest

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
    assert "Cannot write to" in log


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
