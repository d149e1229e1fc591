"""The ledger of a sweep, and the checkpoints that `--keep-best` keeps."""

import json
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from tests.tools.test_sweep import LR, answer, settings, study

assert answer  # a fixture
FILES = ("iter_4.pth", "best_mIoU_iter_4.pth", "on_signal.pth", "last_checkpoint", "my_weights.pth", "log.txt")


def run(tmp_path: Path, answer: Any, outcome: Any, **changes: Any) -> tuple[list[Any], list[dict[str, Any]]]:  # noqa: F811
    def write(config: Any) -> Any:
        for name in FILES:
            (Path(config["work_dir"]) / name).write_text("")
        return outcome(config["optimizer"]["lr"])

    answer(write)
    cfg = Config({"optimizer": {"type": "SGD", "lr": 0.1}})
    trials = study.sweep(cfg, [LR], settings(tmp_path, keep_best=True, **changes))
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    return trials, [json.loads(line) for line in lines]


def test_only_the_best_trial_keeps_its_checkpoints(tmp_path: Path, answer: Any) -> None:  # noqa: F811
    trials, ledger = run(tmp_path, answer, lambda lr: ([lr], ("done", "")))
    assert {name for name in FILES if (Path(trials[0].folder) / name).exists()} == set(FILES)
    for trial in trials[1:]:
        assert {name for name in FILES if (Path(trial.folder) / name).exists()} == {"my_weights.pth", "log.txt"}
    assert [(each["trial"], each["changed"], each["score"], each["state"], each["kept"]) for each in ledger] == [
        (each.number, each.values, each.score, "complete", each is trials[0])
        for each in sorted(trials, key=lambda each: each.number)
    ]
    assert {each["metric"] for each in ledger} == {"mIoU"}
    rows = (tmp_path / "ledger.md").read_text().splitlines()
    assert rows[0] == "| trial | changed | mIoU | state | kept |"
    assert [row.split(" | ")[-1] for row in rows[2:]] == ["yes |", "no |", "no |", "no |"]


def test_failed_trials_keep_their_checkpoints(tmp_path: Path, answer: Any) -> None:  # noqa: F811
    trials, ledger = run(tmp_path, answer, lambda lr: ([], ("failed", "it broke")))
    assert all((Path(each.folder) / "iter_4.pth").exists() for each in trials)
    assert [(each["state"], each["kept"], each["note"]) for each in ledger] == [("failed", False, "it broke")] * 4


@pytest.mark.parametrize("later", [0, 8])
def test_continued_sweep_continues_its_ledger(tmp_path: Path, answer: Any, later: int) -> None:  # noqa: F811
    run(tmp_path, answer, lambda lr: ([lr], ("done", "")))
    _, ledger = run(tmp_path, answer, lambda lr: ([lr], ("done", "")), trials=max(later, 4))
    assert len(ledger) == max(later, 4)
    assert sum(each["kept"] for each in ledger) == 1
