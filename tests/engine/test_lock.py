import errno
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.engine.lock import locked
from footplate.errors import ArgumentError
from tests.support import settings


def hold(folder: str, ready: Any) -> None:
    with locked(folder):
        if os.fork() == 0:  # stands for a worker that outlives its run
            ready.set()
            os.closerange(1, 64)
            signal.alarm(20)
            signal.pause()
        signal.pause()


def test_two_runs_in_one_work_dir_are_refused_until_the_first_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), ready))
    process.start()
    ready.wait(20)
    runner = Runner(**settings(tmp_path))
    with pytest.raises(ArgumentError, match="another run is at work in") as caught:
        runner.train()
    assert caught.value.key == "work_dir"
    assert caught.value.notes[0].startswith(f"process {process.pid} on ")
    assert list(tmp_path.iterdir()) == [tmp_path / ".lock"]
    process.kill()
    process.join()
    assert runner.train() is runner.model


def test_one_run_after_the_other(tmp_path: Path) -> None:
    for _ in range(2):
        Runner(**settings(tmp_path)).train()
    assert not (tmp_path / ".lock").exists()
    with locked(str(tmp_path / "made")):
        assert (tmp_path / "made/.lock").read_text().startswith(f"process {os.getpid()} on ")


def test_errors_at_the_lock_name_it_and_hide_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close, number = os.close, errno.ENOSPC

    def refuse(descriptor: int, *rest: int) -> None:
        if rest:
            raise OSError(number, "No space left on device")
        close(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", refuse)
        with pytest.raises(RuntimeError, match="^own$"), locked(str(tmp_path)):
            raise RuntimeError("own")
        patched.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="No space left") as caught, locked(str(tmp_path)):
            pass
    assert caught.value.filename == str(tmp_path / ".lock")
