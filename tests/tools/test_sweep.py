"""A sweep with a small program in place of `footplate train`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from footplate.config import Config
from footplate.errors import DataError, FootplateError
from footplate.hooks.monitored_metrics import UnknownRuleError
from footplate.metric_names import MissingMetricError
from footplate.tools.sweep_space import parse_parameter

study = pytest.importorskip("footplate.tools.sweep")
LR = parse_parameter("optimizer.lr=0.1,0.2,0.3,0.4")
RANGE = parse_parameter("optimizer.lr=0.0..1.0")
# Validates as often as its first argument has numbers, and ends as its second argument says.
TRAIN = """
import json, os, signal, sys, time
scores, end, words = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
folder = words[words.index("--work-dir") + 1]
signals = []
def stop(*_):
    signals.append(1)
    if len(signals) == 2:
        os._exit(143)  # without saving
if end == "wait":
    signal.signal(signal.SIGTERM, stop)
with open(os.path.join(folder, "arguments.jsonl"), "a") as file:
    file.write(json.dumps(words) + "\\n")
os.makedirs(os.path.join(folder, "1/vis_data"), exist_ok=True)
with open(os.path.join(folder, "1/vis_data/scalars.json"), "a") as file:
    for step, score in enumerate(scores, 1):
        file.write(json.dumps({"loss": 1.0, "lr": 0.1, "iter": step, "step": step}) + "\\n")
        metrics = score if isinstance(score, dict) else {"mIoU": score}
        file.write(json.dumps({**metrics, "step": step}) + "\\n")
if end == "wait":
    while not signals:
        time.sleep(0.01)
    time.sleep(0.3)  # the rest of the iteration
    open(os.path.join(folder, "saved"), "w").close()
    sys.exit(143)
elif end.isdigit():
    os.kill(os.getpid(), int(end))
elif end != "done":
    print(json.dumps({"error": {"type": "RuntimeError", "message": end, "notes": []}}))
    sys.exit(1)
"""


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_POLL_INTERVAL", 0.02)
    monkeypatch.setattr(study, "_PROGRAM", [sys.executable, "-S", "-c", TRAIN])


@pytest.fixture
def cfg() -> Config:
    return Config({"optimizer": {"type": "SGD", "lr": 0.1}, "width": 8})


def run(cfg: Config, parameter: Any, folder: Path, command: Any, **settings: Any) -> list[Any]:
    settings = {"folder": str(folder), "metric": "mIoU", "trials": 4, **settings}
    trials: list[Any] = study.Sweep(cfg, [parameter], command, **settings).run()
    return trials


def trains(answer: Callable[[float], tuple[list[Any], str]]) -> Callable[[Any], list[str]]:
    """Returns the command of trials whose scores and end depend on the learning rate."""

    def command(values: Any) -> list[str]:
        scores, end = answer(values["optimizer.lr"])
        return [json.dumps(scores), end]

    return command


def starts(folder: Path) -> list[list[str]]:
    files = sorted(folder.glob("*/arguments.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_score_of_a_trial_is_its_best_validation(cfg: Config, tmp_path: Path) -> None:
    ended: list[Any] = []
    command = trains(lambda lr: ([lr, 3 * lr, 2 * lr, float("nan")], "done"))
    trials = run(cfg, LR, tmp_path, command, metric="val/mIoU", on_change=ended.append)
    assert [(each.values["optimizer.lr"], each.score) for each in trials] == [
        (lr, pytest.approx(3 * lr)) for lr in (0.4, 0.3, 0.2, 0.1)
    ]
    assert [(each.number, each.state) for each in ended[:2]] == [(0, "running"), (0, "complete")]
    assert all("--resume" not in words for words in starts(tmp_path))


def test_lower_is_better_for_a_loss_and_a_rule_of_the_config_decides(cfg: Config, tmp_path: Path) -> None:
    cfg["default_hooks"] = {"checkpoint": {"save_best": "mIoU", "rule": "less"}}
    trials = run(cfg, LR, tmp_path, trains(lambda lr: ([lr], "done")))
    assert [each.score for each in trials] == [0.1, 0.2, 0.3, 0.4]


def test_failed_and_infeasible_trials_do_not_stop_the_sweep_and_only_failed_ones_are_repeated(
    cfg: Config, tmp_path: Path
) -> None:
    ends = {0.1: "done", 0.2: "CUDA out of memory. Tried to allocate 2 GiB", 0.3: "9", 0.4: "broken", 0.5: "15"}
    lr = parse_parameter("optimizer.lr=0.1,0.2,0.3,0.4,0.5,0.6")
    trials = run(cfg, lr, tmp_path, trains(lambda lr: ([lr], ends[lr])), trials=5)
    assert [(each.state, each.note) for each in trials] == [
        ("complete", ""),
        ("infeasible", "killed, most likely because it ran out of memory"),
        ("infeasible", "out of memory"),
        ("failed", "the process ended with exit code -15"),
        ("failed", "RuntimeError: broken"),
    ]
    again = run(cfg, lr, tmp_path, trains(lambda lr: ([lr], "done")), trials=9)
    assert [each.state for each in again].count("complete") == 4  # the failed trials and a new one ran
    assert sum("--resume" in words for words in starts(tmp_path)) == 2


def test_worse_trials_are_stopped(cfg: Config, tmp_path: Path) -> None:
    good: Any = trains(lambda lr: ([0.5, 0.6, 0.7], "done"))
    run(cfg, RANGE, tmp_path, good, trials=5)
    trials = run(cfg, RANGE, tmp_path, trains(lambda lr: ([0.1, 0.1], "wait")), trials=6)
    assert [each.state for each in trials] == ["complete"] * 5 + ["pruned"]
    assert len(list(tmp_path.glob("*/saved"))) == 1


def test_parallel_trials(cfg: Config, tmp_path: Path) -> None:
    changes: list[Any] = []
    command = trains(lambda lr: ([lr], "done"))
    run(cfg, LR, tmp_path, command, workers=2, on_change=changes.append)
    assert sorted(each.number for each in changes if each.state == "running") == [0, 1, 2, 3]


def test_interrupted_sweep_lets_its_trial_save_and_resumes_it(
    cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_training = Event()
    changes: list[Any] = []

    def read(self: Any, folder: str) -> list[Any]:
        is_training.set()
        return []

    def interrupt(futures: Any) -> None:
        is_training.wait()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(study.Sweep, "_read_scores", read)
        patched.setattr(study, "as_completed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(cfg, LR, tmp_path, trains(lambda lr: ([lr], "wait")), trials=1, on_change=changes.append)
    assert (len(list(tmp_path.glob("*/saved"))), [each.state for each in changes]) == (1, ["running"])
    trials = run(cfg, LR, tmp_path, trains(lambda lr: ([0.5], "done")), trials=1)
    assert [(each.state, each.score) for each in trials] == [("complete", 0.5)]
    assert ["--resume" in words for words in starts(tmp_path)] == [False, True]


def test_unknown_metric_stops_the_sweep_at_the_first_validation(cfg: Config, tmp_path: Path) -> None:
    command = trains(lambda lr: ([lr], "wait"))
    with pytest.raises(MissingMetricError) as caught:
        run(cfg, LR, tmp_path, command, metric="mAcc")
    assert (caught.value.notes[0], caught.value.key) == ("metrics: mIoU", "--metric")
    assert run(cfg, LR, tmp_path, trains(lambda lr: ([lr], "done")), trials=1)[0].state == "complete"


def test_undefined_metric_fails_only_its_trial(cfg: Config, tmp_path: Path) -> None:
    command = trains(lambda lr: ([{"mIoU": lr, "mAcc": float("nan") if lr == 0.1 else lr}], "done"))
    trials = run(cfg, LR, tmp_path, command, metric="mAcc", trials=2)
    assert [(each.state, each.score) for each in trials] == [("complete", 0.2), ("failed", None)]


def test_another_metric_config_or_choices_start_another_sweep_in_the_folder(cfg: Config, tmp_path: Path) -> None:
    command = trains(lambda lr: ([lr], "done"))
    run(cfg, LR, tmp_path, command, trials=1)
    wider = Config({**cfg.to_dict(), "width": 9})
    assert [each.number for each in run(wider, LR, tmp_path, command, trials=1)] == [0]
    other = parse_parameter("optimizer.lr=0.1,0.5")
    trials = run(cfg, other, tmp_path, command)
    assert [each.values["optimizer.lr"] for each in trials] == [0.5, 0.1]
    assert ["--resume" in words for words in starts(tmp_path)].count(True) == 1  # of the config that had been trained


def test_mistakes_are_found_before_files_are_created(cfg: Config, tmp_path: Path) -> None:
    command = trains(lambda lr: ([lr], "done"))
    for texts in (["izer.lr=0.1,0.2"] * 2, ["zer.lr=0.1,0.2"], ["izer.lr=0.1,oops"]):
        parameters = [parse_parameter(f"optim{text}") for text in texts]
        with pytest.raises(FootplateError):
            study.Sweep(cfg, parameters, command, str(tmp_path / "new"), "mIoU").run()
    with pytest.raises(UnknownRuleError, match=r"default_hooks\.checkpoint\.save_best .*checkpoint\.rule to 'greater'"):
        run(cfg, LR, tmp_path / "new", command, metric="quality")
    assert not (tmp_path / "new").exists()


def test_damaged_study_is_an_error(cfg: Config, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"SQLite format 3\0" + b"x" * 4000)
    with pytest.raises(DataError, match="cannot open study.db"):
        run(cfg, LR, tmp_path, trains(lambda lr: ([lr], "done")))
