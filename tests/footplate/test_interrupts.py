"""Temporary folders and the signals that remove them."""

import os
import signal
from pathlib import Path

import pytest

from footplate.interrupts import temporary_folder
from footplate.launchers import RANK_VARIABLES
from tests import programs

SCRIPT = """\
import os, signal, sys
from footplate.interrupts import temporary_folder

with temporary_folder("outer-") as outer, temporary_folder("inner-") as inner:
    print(outer, inner, sep="\\n", flush=True)
    os.kill(os.getpid(), int(sys.argv[1]))
"""


def test_signal_ends_a_script_after_its_folders_are_removed() -> None:
    number = signal.SIGHUP
    environment = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
    ended = programs.run("-c", SCRIPT, str(int(number)), folder=".", environment=environment)
    assert ended.returncode
    assert f"StopSignal: {int(number)}" in ended.stderr
    folders = [Path(line) for line in ended.stdout.splitlines()]
    assert [each.name.partition("-")[0] for each in folders] == ["outer", "inner"]
    assert not any(each.exists() for each in folders)


@pytest.mark.parametrize("name", RANK_VARIABLES)
def test_ranks_have_no_handler_before_they_are_connected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in RANK_VARIABLES:
        monkeypatch.delenv(each, raising=False)
    with temporary_folder("alone-"):
        assert callable(signal.getsignal(signal.SIGTERM))
    monkeypatch.setenv(name, "0")
    with temporary_folder("rank-") as folder:
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert Path(folder).is_dir()
