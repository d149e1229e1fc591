"""Signals that end a command while it uses a temporary folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.footplate.cli.conftest import environment

WAITING = """\
import time
from pathlib import Path
from footplate.registry import METRICS
from tests.support import PointAccuracy

@METRICS.register_module()
class SlowAccuracy(PointAccuracy):
    def process(self, *args, **kwargs):
        Path("waiting").touch()
        time.sleep(60)
"""


def test_signal_leaves_no_temporary_files(tiny: Path) -> None:
    """The preflight validates when the signal arrives."""
    (tiny.parent / "waiting_parts.py").write_text(WAITING)
    tiny.write_text(tiny.read_text().replace('["tests.support"]', '["tests.support", "waiting_parts"]'))
    temporary = tiny.parent / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "footplate", "train", "tiny.py", "--set", "val_evaluator.type=SlowAccuracy"]
    own = environment(TMPDIR=str(temporary))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=own) as process:
        end = time.monotonic() + 50
        while not (tiny.parent / "waiting").exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        created = list(temporary.glob("footplate-*"))
        os.kill(process.pid, signal.SIGHUP)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert (process.returncode, errors.splitlines()[-1]) == (128 + signal.SIGHUP, "interrupted")
    assert len(created) == 1
    assert not created[0].exists()
