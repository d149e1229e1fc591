"""Trials in processes of their own."""

import math
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
from footplate.interrupts import exit_code_of, raising_stop_signals
from footplate.registry.dotted_paths import executed_files
from footplate.tools import sweep_trial
from footplate.tools.sweep_trial import Request, run_in_process
from tests.support import settings

pytest.importorskip("optuna")
pytestmark = [pytest.mark.slow]
told: list[dict[str, Any]] = []


def sound(cfg: Config) -> None:
    import tests.support  # noqa: F401 - registers its parts


def starved(cfg: Config) -> None:
    raise MemoryError


def speaking(cfg: Config) -> None:
    sound(cfg)
    print("printed")
    os.write(2, b"written to a stream\n")


def scoring_nan_first(cfg: Config) -> None:
    from tests.support import PointAccuracy

    scores = iter([math.nan, 50.0, 60.0])
    setattr(PointAccuracy, "compute_metrics", lambda self, results: {"accuracy": next(scores)})  # noqa: B010


def leaving(cfg: Config) -> None:
    os._exit(130)


def killed(cfg: Config) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(
    tmp_path: Path, prepare: Any, *, prune: bool = False, metric: str = "accuracy", **changes: Any
) -> tuple[list[float], Any, list[int]]:
    steps: list[int] = []
    trial = SimpleNamespace(report=lambda value, step: steps.append(step), should_prune=lambda: prune)
    cfg = settings(tmp_path, by_epoch=False, **changes)
    request = Request(cfg, metric, 1, prepare)
    return (*run_in_process(request, trial, lambda **progress: told.append(progress)), steps)


def test_trial_reports_each_validation(tmp_path: Path) -> None:
    scores, outcome, steps = run(tmp_path, sound)
    assert (len(scores), outcome, steps) == (3, ("done", ""), [4, 8, 12])
    assert told[0] == {"done": 1, "length": 12, "score": None}


def test_missing_metric_is_found_before_the_first_iteration(tmp_path: Path) -> None:
    told.clear()
    scores, (kind, why), _ = run(tmp_path, sound, metric="acuracy", preflight=True)
    assert (scores, kind, why.message, why.suggestion, told) == (
        [],
        "refused",
        "the sweep selects the metric 'acuracy', which no evaluator computes",
        "accuracy",
        [],
    )


def test_class_of_an_installed_package_in_a_python_config_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vendored_optim-1.0.dist-info").mkdir()
    (tmp_path / "vendored_optim.py").write_text("import torch\nclass Slow(torch.optim.SGD): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    cfg = Config(settings(tmp_path, by_epoch=False))
    (tmp_path / "config.py").write_text("optim_wrapper = dict(optimizer=dict(type='vendored_optim.Slow', lr=0.1))\n")
    cfg.optim_wrapper = Config.fromfile(tmp_path / "config.py").optim_wrapper
    trial = SimpleNamespace(report=lambda value, step: None, should_prune=lambda: False)
    for executed, kind in ((executed_files(), "done"), (frozenset[str](), "failed")):
        request = Request(cfg._cfg_dict, "accuracy", 1, sound, executed)
        assert run_in_process(request, trial, lambda **news: None)[1][0] == kind


def test_output_of_a_trial_is_in_its_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, speaking, log_level="INFO")
    said = (tmp_path / "output.txt").read_text()
    assert [words for words in ("printed", "written to a stream", "Iter(val)") if words not in said] == []
    assert capfd.readouterr() == ("", "")


def test_pruned_trial_stops(tmp_path: Path) -> None:
    scores, outcome, steps = run(tmp_path, sound, prune=True)
    assert (len(scores), outcome, steps) == (1, ("pruned", ""), [4])
    assert not [log for log in tmp_path.glob("**/*.log") if "ERROR" in log.read_text()]  # pruning is no error


def test_only_finite_validations_are_reported(tmp_path: Path) -> None:
    scores, outcome, steps = run(tmp_path, scoring_nan_first)
    assert (scores[1:], outcome, steps) == ([50.0, 60.0], ("done", ""), [8, 12])


def test_trial_without_memory_is_infeasible(tmp_path: Path) -> None:
    assert run(tmp_path, starved)[1] == ("infeasible", "out of memory")
    assert run(tmp_path, killed)[1] == ("infeasible", "killed, most likely because memory ran out")


def test_trial_that_exits_at_the_second_interrupt_is_interrupted(tmp_path: Path) -> None:
    assert run(tmp_path, leaving)[1] == ("interrupted", "")


def test_error_of_a_trial_is_reported(tmp_path: Path) -> None:
    kind, why = run(tmp_path, sound, model={"type": "ToyModl"})[1]
    assert (kind, why) == ("failed", "UnknownNameError: unknown model 'ToyModl'")


ENDLESS = {"train_cfg": {"by_epoch": False, "max_iters": 100_000_000, "val_interval": 50_000_000}}
INTERRUPTED: tuple[list[float], tuple[str, str]] = ([], ("interrupted", ""))


def interrupted_while_it_is_built(cfg: Config) -> None:
    sound(cfg)
    os.kill(os.getpid(), signal.SIGINT)


def with_code_that_swallows_an_interrupt(cfg: Config) -> None:
    sound(cfg)
    with suppress(BaseException):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


def run_interrupted(
    tmp_path: Path,
    prepare: Any = sound,
    *,
    on_progress: Any = lambda **progress: None,
    prune: Any = lambda: False,
    processes: Any = None,
    **changes: Any,
) -> Any:
    trial = SimpleNamespace(report=lambda value, step: None, should_prune=prune)
    request = Request(settings(tmp_path, by_epoch=False, **changes), "accuracy", 1, prepare)
    return run_in_process(request, trial, on_progress, processes)


def interrupt_children(**progress: Any) -> None:
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGINT)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends the interrupt after the start of the process, long before it has imported anything."""
    set_mask = sweep_trial._set_mask

    def interrupt(how: int) -> None:
        if how == signal.SIG_UNBLOCK:
            interrupt_children()
        set_mask(how)

    monkeypatch.setattr(sweep_trial, "_set_mask", interrupt)


@pytest.fixture
def ignoring() -> Iterator[None]:
    """Ignores interrupts, as what a script starts in the background does, and hands down to all that it starts."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_with_a_handler_releases_the_trials(number: signal.Signals) -> None:
    processes = sweep_trial.TrialProcesses()
    with raising_stop_signals(True), pytest.raises(KeyboardInterrupt) as caught, processes.handling_interrupts():
        signal.raise_signal(number)
    assert (processes.interrupted, exit_code_of(caught.value)) == (True, 128 + number)
    assert signal.getsignal(number) == signal.SIG_DFL


@pytest.mark.usefixtures("at_once")
def test_interrupt_during_imports_of_a_trial_is_handled_later(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_interrupted(tmp_path) == INTERRUPTED
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "output.txt").read_text() == ""


@pytest.mark.usefixtures("ignoring", "at_once")
def test_interrupt_is_handled_if_the_parent_ignores_it(tmp_path: Path) -> None:
    assert run_interrupted(tmp_path) == INTERRUPTED


@pytest.mark.parametrize("prepare", [interrupted_while_it_is_built, with_code_that_swallows_an_interrupt])
def test_interrupt_while_a_trial_is_built(tmp_path: Path, prepare: Any) -> None:
    assert run_interrupted(tmp_path, prepare) == INTERRUPTED
    assert "Traceback" not in (tmp_path / "output.txt").read_text()


def test_trial_interrupted_during_training_is_saved(tmp_path: Path) -> None:
    assert run_interrupted(tmp_path, on_progress=interrupt_children, **ENDLESS) == INTERRUPTED
    assert (tmp_path / "on_signal.pth").is_file()


def test_interrupt_while_a_trial_waits_for_the_pruner(tmp_path: Path) -> None:
    scores, outcome = run_interrupted(tmp_path, prune=interrupt_children)
    assert (len(scores), outcome) == (1, ("interrupted", ""))


@pytest.mark.parametrize("begun", [False, True])
def test_interrupt_of_the_sweep_alone_saves_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], begun: bool
) -> None:
    processes, interrupt = sweep_trial.TrialProcesses(), lambda **progress: os.kill(os.getpid(), signal.SIGINT)
    if not begun:
        start = multiprocessing.get_context("spawn").Process.start
        monkeypatch.setattr("multiprocessing.process.BaseProcess.start", _then(start, interrupt))
    with pytest.raises(KeyboardInterrupt), processes.handling_interrupts():
        run_interrupted(tmp_path, on_progress=interrupt, processes=processes, **ENDLESS)
    assert multiprocessing.active_children() == []
    assert (tmp_path / "on_signal.pth").is_file() is begun
    assert (
        capfd.readouterr().err == "SIGINT: trials finish their iterations and save; interrupt again to exit at once\n"
    )
    assert "SIGINT again: " not in (tmp_path / "output.txt").read_text()


def test_second_interrupt_of_a_sweep_kills_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    processes = sweep_trial.TrialProcesses()
    join = multiprocessing.process.BaseProcess.join

    def interrupt_while_it_waits(process: Any, timeout: float | None = None) -> None:
        os.kill(os.getpid(), signal.SIGINT)  # the same request, as `timeout` sends it to a process and to its group
        monkeypatch.setattr(sweep_trial, "_REPEAT_INTERVAL", 0.0)
        os.kill(os.getpid(), signal.SIGINT)
        join(process, timeout)

    monkeypatch.setattr("multiprocessing.process.BaseProcess.join", interrupt_while_it_waits)
    with pytest.raises(KeyboardInterrupt), processes.handling_interrupts():
        run_interrupted(
            tmp_path, on_progress=lambda **progress: os.kill(os.getpid(), signal.SIGINT), processes=processes, **ENDLESS
        )
    monkeypatch.undo()
    _wait_for(lambda: multiprocessing.active_children() == [])
    assert not (tmp_path / "on_signal.pth").exists()
    assert "SIGINT again: exiting at once without saving" in capfd.readouterr().err


KILLED = """\
import os, signal
from pathlib import Path
from tests.tools.test_sweep_trial import ENDLESS, run_interrupted

if __name__ == "__main__":
    run_interrupted(Path({folder!r}), on_progress=lambda **progress: os.kill(os.getpid(), signal.SIGKILL), **ENDLESS)
"""


def test_trial_of_a_killed_sweep_saves_and_ends(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(folder=str(tmp_path)))
    root = str(Path(__file__).parents[2])
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
