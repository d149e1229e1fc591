"""Trials in processes of their own."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from footplate.config import Config
from footplate.registry.dotted_paths import executed_files
from footplate.tools.sweep.trial import Request, in_a_process
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
    tell = lambda **news: told.append(news)  # noqa: E731
    return (*in_a_process(Request(cfg, metric, 1, prepare), trial, tell), steps)


def test_a_run_tells_what_each_validation_gives(tmp_path: Path) -> None:
    scores, outcome, steps = run(tmp_path, sound)
    assert (len(scores), outcome, steps) == (3, ("done", ""), [4, 8, 12])
    assert told[0] == {"done": 1, "length": 12, "score": None}


def test_a_metric_that_no_validation_gives_is_refused_before_the_first_iteration(tmp_path: Path) -> None:
    told.clear()
    scores, (kind, why), _ = run(tmp_path, sound, metric="acuracy", preflight=True)
    assert (scores, kind, why.message, why.suggestion, told) == (
        [],
        "refused",
        "the sweep names 'acuracy', which no evaluator computes",
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
        assert in_a_process(request, trial, lambda **news: None)[1][0] == kind


def test_what_a_run_says_lies_in_its_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, speaking, log_level="INFO")
    said = (tmp_path / "output.txt").read_text()
    assert [words for words in ("printed", "written to a stream", "Iter(val)") if words not in said] == []
    assert capfd.readouterr() == ("", "")


def test_a_run_that_is_told_to_stops(tmp_path: Path) -> None:
    scores, outcome, steps = run(tmp_path, sound, prune=True)
    assert (len(scores), outcome, steps) == (1, ("pruned", ""), [4])


def test_a_run_without_memory_is_infeasible(tmp_path: Path) -> None:
    assert run(tmp_path, starved)[1] == ("infeasible", "out of memory")
    assert run(tmp_path, killed)[1] == ("infeasible", "killed, most likely since memory ran out")


def test_a_run_that_leaves_at_the_second_interrupt_is_interrupted(tmp_path: Path) -> None:
    assert run(tmp_path, leaving)[1] == ("interrupted", "")


def test_a_mistake_is_told(tmp_path: Path) -> None:
    kind, why = run(tmp_path, sound, model={"type": "ToyModl"})[1]
    assert (kind, why) == ("failed", "UnknownNameError: unknown model 'ToyModl'")
