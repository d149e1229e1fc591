"""A sweep with a small program in place of `footplate train`."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.errors import ArgumentError, DataError, FootplateError
from footplate.hooks.metric_rules import MissingMetricError
from footplate.tools.sweep_space import parse_parameter

study = pytest.importorskip("footplate.tools.sweep")
LR = parse_parameter("optimizer.lr=0.1,0.2,0.3,0.4")
RANGE = parse_parameter("optimizer.lr=0.0..1.0")
# Validates as often as its first argument has numbers, and ends as its second argument says.
TRAIN = """
import json, os, signal, sys, time
scores, end, words = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
folder = words[words.index("--work-dir") + 1]
with open(os.path.join(folder, "arguments.jsonl"), "a") as file:
    file.write(json.dumps(words) + "\\n")
os.makedirs(os.path.join(folder, "1/vis_data"), exist_ok=True)
with open(os.path.join(folder, "1/vis_data/scalars.json"), "a") as file:
    for step, score in enumerate(scores, 1):
        file.write(json.dumps({"loss": 1.0, "lr": 0.1, "iter": step, "step": step}) + "\\n")
        file.write(json.dumps({"mIoU": score, "step": step}) + "\\n")
if end == "wait":
    time.sleep(60)
elif end == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif end != "done":
    print(json.dumps({"error": {"type": "RuntimeError", "message": end, "notes": []}}))
    sys.exit(1)
"""


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_POLL_INTERVAL", 0.02)


@pytest.fixture
def cfg() -> Config:
    return Config({"optimizer": {"type": "SGD", "lr": 0.1}, "width": 8})


def settings(folder: Path, **changes: Any) -> Any:
    return study.SweepSettings(**{"folder": str(folder), "metric": "mIoU", "trials": 4, **changes})


def trains(answer: Callable[[float], tuple[list[float], str]]) -> Callable[[Any], list[str]]:
    """Returns the command of trials whose scores and end depend on the learning rate."""

    def command(values: Any) -> list[str]:
        scores, end = answer(values["optimizer.lr"])
        return [sys.executable, "-S", "-c", TRAIN, json.dumps(scores), end]

    return command


def starts(folder: Path) -> list[list[str]]:
    files = sorted(folder.glob("*/arguments.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_score_of_a_trial_is_its_best_validation(cfg: Config, tmp_path: Path) -> None:
    ended: list[Any] = []
    command = trains(lambda lr: ([lr, 3 * lr, 2 * lr, float("nan")], "done"))
    trials = study.sweep(cfg, [LR], settings(tmp_path), command, on_change=ended.append)
    assert [(each.values["optimizer.lr"], each.score) for each in trials] == [
        (lr, pytest.approx(3 * lr)) for lr in (0.4, 0.3, 0.2, 0.1)
    ]
    assert [(each.number, each.state) for each in ended[:2]] == [(0, "running"), (0, "complete")]
    assert all("--resume" not in words for words in starts(tmp_path))


def test_lower_is_better_for_a_loss_and_a_rule_of_the_config_decides(cfg: Config, tmp_path: Path) -> None:
    cfg["default_hooks"] = {"checkpoint": {"save_best": "mIoU", "rule": "less"}}
    trials = study.sweep(cfg, [LR], settings(tmp_path), trains(lambda lr: ([lr], "done")))
    assert [each.score for each in trials] == [0.1, 0.2, 0.3, 0.4]


def test_failed_and_infeasible_trials_do_not_stop_the_sweep(cfg: Config, tmp_path: Path) -> None:
    ends = {0.1: "done", 0.2: "CUDA out of memory. Tried to allocate 2 GiB", 0.3: "killed", 0.4: "broken"}
    trials = study.sweep(cfg, [LR], settings(tmp_path), trains(lambda lr: ([lr], ends[lr])))
    assert [(each.state, each.note) for each in trials] == [
        ("complete", ""),
        ("infeasible", "killed, most likely because memory ran out"),
        ("infeasible", "out of memory"),
        ("failed", "RuntimeError: broken"),
    ]
    again = study.sweep(cfg, [LR], settings(tmp_path, retry=True), trains(lambda lr: ([lr], "done")))
    assert [each.state for each in again].count("complete") == 2  # only the failed trial ran again
    assert sum("--resume" in words for words in starts(tmp_path)) == 1


def test_worse_trials_are_stopped(cfg: Config, tmp_path: Path) -> None:
    good: Any = trains(lambda lr: ([0.5, 0.6, 0.7], "done"))
    study.sweep(cfg, [RANGE], settings(tmp_path, trials=5), good)
    trials = study.sweep(cfg, [RANGE], settings(tmp_path, trials=6), trains(lambda lr: ([0.1, 0.1], "wait")))
    assert [each.state for each in trials] == ["complete"] * 5 + ["pruned"]


def test_sweep_continues_without_repeating_trials(cfg: Config, tmp_path: Path) -> None:
    command = trains(lambda lr: ([lr], "done"))
    study.sweep(cfg, [LR], settings(tmp_path, trials=2), command)
    trials = study.sweep(cfg, [LR], settings(tmp_path, trials=9), command)
    assert (len(trials), len(starts(tmp_path))) == (4, 4)


def test_trial_with_an_earlier_config_continues_its_run(cfg: Config, tmp_path: Path) -> None:
    same = parse_parameter("optimizer.lr=0.1,0.1")
    trials = study.sweep(cfg, [same], settings(tmp_path), trains(lambda lr: ([lr], "done")))
    assert [each.state for each in trials] == ["complete", "complete"]
    assert ["--resume" in words for words in starts(tmp_path)] == [False, True]


def test_parallel_trials(cfg: Config, tmp_path: Path) -> None:
    changes: list[Any] = []
    command = trains(lambda lr: ([lr], "done"))
    study.sweep(cfg, [LR], settings(tmp_path, workers=2), command, on_change=changes.append)
    assert [(each.number, each.state) for each in changes[:2]] == [(0, "running"), (1, "running")]
    assert len(starts(tmp_path)) == 4


def test_interrupted_sweep_stops_its_trial_and_resumes_it(
    cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes: list[Any] = []

    def interrupt(self: Any, running: Any) -> None:
        if starts(tmp_path):
            processes.append(running.process)
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(study._Sweep, "_watch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            study.sweep(cfg, [LR], settings(tmp_path, trials=1), trains(lambda lr: ([lr], "wait")))
    assert [process.returncode for process in processes] == [-signal.SIGTERM]
    trials = study.sweep(cfg, [LR], settings(tmp_path, trials=1), trains(lambda lr: ([0.5], "done")))
    assert [(each.state, each.score) for each in trials] == [("complete", 0.5)]
    assert ["--resume" in words for words in starts(tmp_path)] == [False, True]


def test_unknown_metric_stops_the_sweep_at_the_first_validation(cfg: Config, tmp_path: Path) -> None:
    command = trains(lambda lr: ([lr], "wait"))
    with pytest.raises(MissingMetricError) as caught:
        study.sweep(cfg, [LR], settings(tmp_path, metric="mAcc"), command)
    assert (caught.value.notes[0], caught.value.key) == ("metrics: mIoU", "--metric")
    assert (
        study.sweep(cfg, [LR], settings(tmp_path, trials=1), trains(lambda lr: ([lr], "done")))[0].state == "complete"
    )


def test_sweep_cannot_continue_with_another_metric_config_or_choices(cfg: Config, tmp_path: Path) -> None:
    command = trains(lambda lr: ([lr], "done"))
    study.sweep(cfg, [LR], settings(tmp_path, trials=1), command)
    wider = Config({**cfg.to_dict(), "width": 9})
    other = parse_parameter("optimizer.lr=0.1,0.5")
    for config, parameter, changes in ((cfg, LR, {"metric": "aAcc"}), (wider, LR, {}), (cfg, other, {})):
        with pytest.raises(ArgumentError, match="was started with a different config, metric, keys or choices"):
            study.sweep(config, [parameter], settings(tmp_path, **changes), command)


def test_mistakes_are_found_before_files_are_created(cfg: Config, tmp_path: Path) -> None:
    command = trains(lambda lr: ([lr], "done"))
    for texts in (["izer.lr=0.1,0.2"] * 2, ["zer.lr=0.1,0.2"], ["izer.lr=0.1,oops"]):
        parameters = [parse_parameter(f"optim{text}") for text in texts]
        with pytest.raises(FootplateError):
            study.sweep(cfg, parameters, settings(tmp_path / "new"), command)
    with pytest.raises(FootplateError):
        study.sweep(cfg, [LR], settings(tmp_path / "new", metric="quality"), command)
    assert not (tmp_path / "new").exists()


def test_damaged_study_is_an_error(cfg: Config, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"SQLite format 3\0" + b"x" * 4000)
    with pytest.raises(DataError, match="is damaged"):
        study.sweep(cfg, [LR], settings(tmp_path), trains(lambda lr: ([lr], "done")))


def test_default_metric_is_that_of_save_best() -> None:
    assert study.default_metric(Config({"default_hooks": {"checkpoint": {"save_best": ["auto", "mIoU"]}}})) == "mIoU"
    with pytest.raises(ArgumentError, match="save_best"):
        study.default_metric(Config({}))
