"""Signals that end a command while it uses a temporary folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.footplate.cli.conftest import environment

WAITING = """\
import time
from pathlib import Path
from footplate.registry import DATASETS, METRICS
from tests.support import PointAccuracy, Points

def wait():
    Path("waiting").touch()
    time.sleep(60)

@DATASETS.register_module()
class SlowPoints(Points):
    def __getitem__(self, index):
        wait()

@METRICS.register_module()
class SlowAccuracy(PointAccuracy):
    def process(self, *args, **kwargs):
        wait()
"""
DATA = "train_dataloader.dataset.type=SlowPoints"


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["train", "--set", DATA, "+train_dataloader.batch_size=auto"], signal.SIGTERM),
        (["train", "--set", "val_evaluator.type=SlowAccuracy"], signal.SIGHUP),  # in the preflight check
    ],
    ids=["batch_size=auto", "preflight"],
)
def test_signal_leaves_no_temporary_files(tiny: Path, words: list[str], number: signal.Signals) -> None:
    (tiny.parent / "waiting_parts.py").write_text(WAITING)
    tiny.write_text(tiny.read_text().replace('["tests.support"]', '["tests.support", "waiting_parts"]'))
    temporary = tiny.parent / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "footplate", words[0], "tiny.py", *words[1:]]
    own = environment(TMPDIR=str(temporary))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=own) as process:
        end = time.monotonic() + 50
        while not (tiny.parent / "waiting").exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        created = list(temporary.glob("footplate-*"))
        os.kill(process.pid, number)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert (process.returncode, errors.splitlines()[-1]) == (128 + number, "interrupted")
    assert len(created) == 1
    assert not created[0].exists()
