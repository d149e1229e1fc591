"""Signals that end a command while it uses a temporary folder."""

import os
import signal
from pathlib import Path

from tests import programs
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
    command = ["-m", "footplate", "train", "tiny.py", "--set", "val_evaluator.type=SlowAccuracy"]
    program = programs.start(*command, folder=tiny.parent, environment=environment(TMPDIR=str(temporary)))
    program.wait_until((tiny.parent / "waiting").exists)
    created = list(temporary.glob("footplate-*"))
    os.kill(program.process, signal.SIGHUP)
    done = program.wait()
    assert (done.returncode, done.stderr.splitlines()[-1]) == (128 + signal.SIGHUP, "interrupted")
    assert len(created) == 1
    assert not created[0].exists()
