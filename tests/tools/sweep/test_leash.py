"""Interrupts of a sweep's trials: at any instant of a trial's life, of the trial, of the sweep, or of both."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from footplate.config import Config
from footplate.tools.sweep import leash
from footplate.tools.sweep.trial import Request, in_a_process
from tests.support import settings

pytestmark = [pytest.mark.slow]
ENDLESS = {"train_cfg": {"by_epoch": False, "max_iters": 100_000_000, "val_interval": 50_000_000}}
INTERRUPTED: tuple[list[float], tuple[str, str]] = ([], ("interrupted", ""))


def sound(cfg: Config) -> None:
    import tests.support  # noqa: F401 - registers its parts


def interrupted_while_it_is_built(cfg: Config) -> None:
    sound(cfg)
    os.kill(os.getpid(), signal.SIGINT)


def with_code_that_swallows_an_interrupt(cfg: Config) -> None:
    sound(cfg)
    with suppress(BaseException):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


def run(
    tmp_path: Path,
    prepare: Any = sound,
    *,
    tell: Any = lambda **news: None,
    prune: Any = lambda: False,
    held: Any = None,
    **changes: Any,
) -> Any:
    trial = SimpleNamespace(report=lambda value, step: None, should_prune=prune)
    request = Request(settings(tmp_path, by_epoch=False, **changes), "accuracy", 1, prepare)
    return in_a_process(request, trial, tell, held)


def interrupt_children(**news: Any) -> None:
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGINT)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends the interrupt behind the start of the process, long before it has imported anything."""
    take = leash._take_interrupts

    def interrupt() -> None:
        interrupt_children()
        take()

    monkeypatch.setattr(leash, "_take_interrupts", interrupt)


@pytest.fixture
def ignoring() -> Iterator[None]:
    """Ignores interrupts, as what a script starts in the background does, and hands down to all that it starts."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("at_once")
def test_an_interrupt_while_a_trial_imports_waits_until_it_can_be_answered(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == INTERRUPTED
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "output.txt").read_text() == ""


@pytest.mark.usefixtures("ignoring", "at_once")
def test_an_interrupt_counts_where_those_who_started_the_sweep_ignore_it(tmp_path: Path) -> None:
    assert run(tmp_path) == INTERRUPTED


@pytest.mark.parametrize("prepare", [interrupted_while_it_is_built, with_code_that_swallows_an_interrupt])
def test_an_interrupt_while_a_trial_is_built(tmp_path: Path, prepare: Any) -> None:
    assert run(tmp_path, prepare) == INTERRUPTED
    assert "Traceback" not in (tmp_path / "output.txt").read_text()


def test_an_interrupt_while_a_trial_trains_has_it_saved(tmp_path: Path) -> None:
    assert run(tmp_path, tell=interrupt_children, **ENDLESS) == INTERRUPTED
    assert (tmp_path / "on_signal.pth").is_file()


def test_an_interrupt_while_a_trial_waits_for_an_answer(tmp_path: Path) -> None:
    scores, outcome = run(tmp_path, prune=interrupt_children)
    assert (len(scores), outcome) == (1, ("interrupted", ""))


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_of_the_sweep_alone_has_its_trial_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], begun: bool
) -> None:
    held, interrupt = leash.Leash(), lambda **news: os.kill(os.getpid(), signal.SIGINT)
    if not begun:
        start = multiprocessing.get_context("spawn").Process.start
        monkeypatch.setattr("multiprocessing.process.BaseProcess.start", _then(start, interrupt))
    with pytest.raises(KeyboardInterrupt), held.answering_interrupts():
        run(tmp_path, tell=interrupt, held=held, **ENDLESS)
    assert multiprocessing.active_children() == []
    assert (tmp_path / "on_signal.pth").is_file() is begun
    assert capfd.readouterr().err == "SIGINT: trials finish their iterations and save; once more leaves at once\n"
    assert "again" not in (tmp_path / "output.txt").read_text()


def test_the_second_interrupt_of_a_sweep_ends_its_trial_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    held = leash.Leash()
    join = multiprocessing.process.BaseProcess.join

    def interrupt_while_it_waits(process: Any, timeout: float | None = None) -> None:
        os.kill(os.getpid(), signal.SIGINT)  # the same wish, as `timeout` sends it to a process and to its group
        monkeypatch.setattr(leash, "_ONE_WISH", 0.0)
        os.kill(os.getpid(), signal.SIGINT)
        join(process, timeout)

    monkeypatch.setattr("multiprocessing.process.BaseProcess.join", interrupt_while_it_waits)
    with pytest.raises(KeyboardInterrupt), held.answering_interrupts():
        run(tmp_path, tell=lambda **news: os.kill(os.getpid(), signal.SIGINT), held=held, **ENDLESS)
    monkeypatch.undo()
    _wait_for(lambda: multiprocessing.active_children() == [])
    assert not (tmp_path / "on_signal.pth").exists()
    assert "SIGINT again: leaving at once" in capfd.readouterr().err


KILLED = """\
import os, signal
from pathlib import Path
from tests.tools.sweep.test_leash import ENDLESS, run

if __name__ == "__main__":
    run(Path({folder!r}), tell=lambda **news: os.kill(os.getpid(), signal.SIGKILL), **ENDLESS)
"""


def test_a_trial_whose_sweep_is_killed_ends_saved(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(folder=str(tmp_path)))
    root = str(Path(__file__).parents[3])
    found = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, str(script)], cwd=root, env={**os.environ, "PYTHONPATH": found}, check=False)
    assert done.returncode == -signal.SIGKILL
    _wait_for(lambda: "Resume to continue from there." in (tmp_path / "output.txt").read_text())


def _then(start: Callable[[Any], None], also: Callable[[], None]) -> Callable[[Any], None]:
    def both(process: Any) -> None:
        start(process)
        also()

    return both


def _wait_for(there: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.2)
