"""Tests `footplate sweep`: messages that are printed once for all trials."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from footplate.cli import sweep as command
from footplate.cli.main import build_parser
from footplate.config import Config
from footplate.errors import DataError
from footplate.tools.report_overview import sweep_data
from tests.cli.conftest import Command
from tests.support import TINY

study = pytest.importorskip("footplate.tools.sweep", reason="the extra 'sweep' is not installed")

BEST = "--work-dir tiny/best"
LR = "optim_wrapper.optimizer.lr=0.1,0.2"


def test_mistake_in_every_trial_is_reported_once_without_creating_files(tiny: Path, footplate: Command) -> None:
    tiny.write_text(TINY.replace("val_interval=4", "val_intervals=4"))
    code, told, errors = footplate("sweep", "tiny.py", "--param", LR, "--metric", "accuracy")
    assert (code, told) == (2, "")
    assert errors.startswith("error: loop 'IterBasedTrainLoop' takes no argument 'val_intervals'\n  at tiny.py:16, ")
    assert not (tiny.parent / "sweeps").exists()


def test_each_change_is_printed_and_an_interrupt_prints_how_to_continue(
    tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = study.TrialInfo(3, {"optimizer.lr": 0.00123456, "width": 8}, "running", None, "sweeps/tiny/0a1b", "")

    def interrupted(sweep: Any) -> None:
        sweep.on_change(trial)
        sweep.on_change(trial._replace(state="complete", score=53.5))
        raise KeyboardInterrupt

    tiny.write_text(TINY.replace("        lr=0.1", "        lr=None"))  # the varied key may be invalid
    monkeypatch.setattr("footplate.tools.sweep.Sweep.run", interrupted)
    code, told, _ = footplate("sweep", "tiny.py", "--param", LR, "--metric", "accuracy")
    assert (code, told.splitlines()) == (
        130,
        [
            "trial 3 started: lr=0.001235, width=8; log: sweeps/tiny/0a1b/output.txt",
            "trial 3: accuracy 53.5, lr=0.001235, width=8, complete",
            "To continue the sweep, run the same command again.",
        ],
    )


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Returns a function that returns the content of the report for the arguments of a sweep and its trials."""

    def written(words: list[str], trials: list[Any], folder: str = "tiny") -> dict[str, Any]:
        found: dict[str, Any] = {}
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(
            "footplate.tools.report.write_report", lambda runs, path, **options: found.update(options, runs=runs)
        )
        monkeypatch.setattr("footplate.tools.runs.read_run", _read_a_alone)
        arguments = build_parser().parse_args(["sweep", *words, "--param", LR])
        train = partial(command._train_command, arguments, Config({}))
        command._write_report(study.Sweep(Config({}), [], train, str(tmp_path / folder), "accuracy"), trials)
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
        "sweep": sweep_data("accuracy", trials, f"footplate train tiny.py --seed 0 --set optimizer.lr=0.25 {BEST}"),
    }
    assert report(["tiny.py"], trials[1:]) == {}
    in_folder = [trials[0]._replace(folder=os.path.abspath("c"))]
    found = report(["tiny.py"], in_folder, "my_sweep")
    assert (found["title"], found["runs"]) == ("my_sweep", ["run of c"])


def test_best_command_repeats_the_overrides_and_the_seed_of_the_sweep_in_a_new_folder(
    report: Callable[..., dict[str, Any]],
) -> None:
    best = study.TrialInfo(4, {"optimizer.lr": 0.25, "model.type": "Net"}, "complete", 1.0, "a", "")
    words = ["my config.py", "--set", "a.b=[1, 2]", "--cfg-options", "c=3", "--seed", "7"]
    assert report(words, [best])["sweep"]["command"] == (
        "footplate train 'my config.py' --cfg-options c=3 --seed 7 --set 'a.b=[1, 2]' optimizer.lr=0.25 model.type=Net "
        + BEST
    )


@pytest.mark.parametrize("values", [{"randomness": {"seed": 3}}, {"seed": 3}])
def test_seed_of_the_config_is_kept(values: dict[str, Any]) -> None:
    arguments = build_parser().parse_args(["sweep", "tiny.py", "--param", LR])
    assert "--seed" not in command._train_command(arguments, Config(values), {})


def _read_a_alone(folder: str) -> str:
    if folder == "b":
        raise DataError("nothing")
    return f"run of {folder}"


def test_metric_is_required_if_the_config_does_not_select_the_best_checkpoint(tiny: Path, footplate: Command) -> None:
    code, _, errors = footplate("sweep", "tiny.py", "--param", LR)
    assert (code, errors) == (
        2,
        "error: the metric is unknown, because save_best is missing or 'auto'\n  Add --metric NAME.\n",
    )
