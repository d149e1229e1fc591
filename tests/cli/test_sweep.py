"""Tests `footplate sweep`: messages that are printed once for all trials."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate.cli import sweep as command
from footplate.cli.main import build_parser
from footplate.cli.sweep import SweepDisplay
from footplate.errors import DataError
from tests.hooks.test_progress_hook import lines_of, terminal
from tests.support import TINY

pytest.importorskip("optuna", reason="the extra 'sweep' is not installed")

Command = Callable[..., tuple[int, str, str]]
LR = "optim_wrapper.optimizer.lr=0.1,0.2"


def test_several_processes_are_refused(tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, told, errors = footplate("sweep", "tiny.py", "--param", LR, "--metric", "accuracy")
    assert (code, told) == (2, "")
    assert errors == "error: footplate sweep must run in a single process\n  Start it without torchrun.\n"


def test_mistake_in_every_trial_is_reported_once_without_creating_files(tiny: Path, footplate: Command) -> None:
    tiny.write_text(TINY.replace("val_interval=4", "val_intervals=4"))
    code, told, errors = footplate("sweep", "tiny.py", "--param", LR, "--metric", "accuracy")
    assert (code, told) == (2, "")
    assert errors.startswith("error: loop 'IterBasedTrainLoop' takes no argument 'val_intervals'\n  at tiny.py:16, ")
    assert not (tiny.parent / "sweeps").exists()


@pytest.mark.parametrize("text", [TINY, TINY.replace("        lr=0.1", "        lr=None")])
def test_varied_key_may_be_invalid_and_interrupt_prints_how_to_continue(
    tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    tiny.write_text(text)
    monkeypatch.setattr("footplate.tools.sweep.sweep", interrupted)
    code, told, _ = footplate("sweep", "tiny.py", "--param", LR, "--metric", "accuracy")
    assert (code, told) == (130, "To continue the sweep, run the same command again.\n")


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Returns a function that returns the content of the report for the arguments of a sweep and its trials."""

    def written(words: list[str], trials: list[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        monkeypatch.setattr(
            "footplate.tools.report.write_report", lambda runs, path, **options: found.update(options, runs=runs)
        )
        monkeypatch.setattr("footplate.tools.runs.read_run", _read_a_alone)
        settings = study.SweepSettings(str(tmp_path / "tiny"), "accuracy")
        command._write_report(trials, settings, build_parser().parse_args(["sweep", *words, "--param", LR]))
        return found

    return written


def test_report_names_trials_by_their_settings_and_leaves_out_empty_ones(
    report: Callable[..., dict[str, Any]],
) -> None:
    trials = [
        study.TrialInfo(4, {"optimizer.lr": 0.25}, "complete", 1.0, "a", ""),
        study.TrialInfo(2, {}, "failed", None, "b", ""),
    ]
    assert report(["tiny.py"], trials) == {
        "runs": ["run of a"],
        "names": ["trial 4"],
        "title": "Sweep tiny",
        "sweep": ("accuracy", trials, "footplate train tiny.py --set optimizer.lr=0.25"),
    }
    assert report(["tiny.py"], trials[1:]) == {}


def test_best_command_repeats_the_overrides_of_the_sweep(report: Callable[..., dict[str, Any]]) -> None:
    best = study.TrialInfo(4, {"optimizer.lr": 0.25, "model.type": "Net"}, "complete", 1.0, "a", "")
    assert report(["my config.py", "--set", "a.b=[1, 2]", "--cfg-options", "c=3"], [best])["sweep"].command == (
        "footplate train 'my config.py' --cfg-options c=3 --set optimizer.lr=0.25 model.type=Net 'a.b=[1, 2]'"
    )


@pytest.mark.parametrize("given", ["optimizer.lr=1", "optimizer=dict(lr=1)"])
def test_best_command_sets_the_searched_keys_after_those_that_would_replace_them(
    report: Callable[..., dict[str, Any]], given: str
) -> None:
    best = study.TrialInfo(4, {"optimizer.lr": 0.25}, "complete", 1.0, "a", "")
    assert report(["a.py", "--set", given], [best])["sweep"].command.endswith(" optimizer.lr=0.25")


def _read_a_alone(folder: str) -> str:
    if folder == "b":
        raise DataError("nothing")
    return f"run of {folder}"


study = pytest.importorskip("footplate.tools.sweep")


def progress(number: int = 3, **known: Any) -> Any:
    return study.TrialProgress(number, {"optimizer.lr": 0.00123456, "width": 8}, "sweeps/tiny/0a1b", **known)


def ended(number: int = 3) -> Any:
    return study.TrialInfo(number, {"width": 8}, "complete", 53.5, "sweeps/tiny/0a1b", "")


def test_line_is_printed_when_a_trial_starts_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with SweepDisplay("mIoU") as display:
        for each in (progress(), progress(done=4, length=8), progress(done=8, length=8, score=53.5)):
            display.update(each)
        display.print_trial(ended())
        display.update(progress(4))
    assert capsys.readouterr().out.splitlines() == [
        "trial 3 starts: lr=0.001235, width=8; its log: sweeps/tiny/0a1b/output.txt",
        "trial 3: mIoU 53.5, width=8, complete",
        "trial 4 starts: lr=0.001235, width=8; its log: sweeps/tiny/0a1b/output.txt",
    ]


def test_terminal_shows_a_line_per_running_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    with terminal() as shown, SweepDisplay("mIoU") as display:
        display.update(progress(3))
        display.update(progress(4))
        display.update(progress(3, done=4, length=8))
        display.update(progress(3, done=6, length=8, score=51.25))
        display.print_trial(ended())
    lines = lines_of(shown[0])
    assert "trial 3 ──────────────────── starting  lr=0.001235, width=8" in lines
    assert "trial 3 ━━━━━━━━━━────────── 4/8  lr=0.001235, width=8" in lines
    assert "trial 3 ━━━━━━━━━━━━━━━───── 6/8  mIoU 51.25  lr=0.001235, width=8" in lines
    assert "trial 3: mIoU 53.5, width=8, complete" in lines
    behind = shown[0][shown[0].index("trial 3: mIoU 53.5, width=8, complete") :]
    assert re.search(r"trial 4 ─+ starting", lines_of(behind)[1])
    cleared = "\r\x1b7\x1b[B\x1b[J\x1b8\x1b[K"  # clears the lines below the cursor, and its own line
    assert behind.endswith(f"{cleared}\x1b[?2026l\x1b[?25h")  # the display is removed at the end
