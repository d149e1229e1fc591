"""Tests `footplate sweep`: messages that are printed once for all trials."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate.cli import sweep as command
from footplate.errors import DataError
from tests.support import TINY

pytest.importorskip("optuna", reason="the extra 'sweep' is not installed")

Command = Callable[..., tuple[int, str, str]]
LR = "optim_wrapper.optimizer.lr=0.1,0.2"


def test_a_mistake_that_no_trial_mends_is_said_once_and_nothing_is_made(tiny: Path, footplate: Command) -> None:
    tiny.write_text(TINY.replace("val_interval=4", "val_intervals=4"))
    code, told, errors = footplate("sweep", "tiny.py", "--param", LR, "--metric", "accuracy")
    assert (code, told) == (2, "")
    assert errors.startswith("error: loop 'IterBasedTrainLoop' takes no argument 'val_intervals'\n  at tiny.py:16, ")
    assert not (tiny.parent / "sweeps").exists()


@pytest.mark.parametrize("text", [TINY, TINY.replace("        lr=0.1", "        lr=None")])
def test_what_is_varied_may_be_wrong_in_the_config_and_an_interrupt_says_how_to_go_on(
    tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    tiny.write_text(text)
    monkeypatch.setattr("footplate.tools.sweep.study.sweep", interrupted)
    code, told, _ = footplate("sweep", "tiny.py", "--param", LR, "--metric", "accuracy")
    assert (code, told) == (130, "the same command goes on with the sweep\n")


def test_the_page_calls_trials_by_their_settings_and_leaves_out_what_measured_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from footplate.tools.sweep import study

    written: dict[str, Any] = {}
    monkeypatch.setattr(
        "footplate.tools.report.write_report", lambda runs, path, **words: written.update(words, runs=runs)
    )
    trials = [
        study.TrialInfo(4, {"optimizer.lr": 0.25}, "complete", 1.0, "a", ""),
        study.TrialInfo(2, {}, "failed", None, "b", ""),
    ]
    monkeypatch.setattr("footplate.tools.runs.read_run", _read_a_alone)
    command._write_report(trials, str(tmp_path / "tiny"))
    assert written == {"runs": ["run of a"], "names": ["4: lr=0.25"], "title": "the sweep tiny"}


def _read_a_alone(folder: str) -> str:
    if folder == "b":
        raise DataError("nothing")
    return f"run of {folder}"
