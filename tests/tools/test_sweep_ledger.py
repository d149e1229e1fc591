"""The ledger of a sweep, and the checkpoints that `--keep-best` keeps."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from footplate import storage
from footplate.config import Config
from footplate.tools.sweep_ledger import update_ledger
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
    assert [(each["state"], each["kept"], each["note"]) for each in ledger] == [("failed", True, "it broke")] * 4
    rows = (tmp_path / "ledger.md").read_text().splitlines()
    assert [row.split(" | ")[2:] for row in rows[2:]] == [["–", "failed", "yes |"]] * 4


@pytest.mark.parametrize("later", [0, 8])
def test_continued_sweep_continues_its_ledger(tmp_path: Path, answer: Any, later: int) -> None:  # noqa: F811
    run(tmp_path, answer, lambda lr: ([lr], ("done", "")))
    _, ledger = run(tmp_path, answer, lambda lr: ([lr], ("done", "")), trials=max(later, 4))
    assert len(ledger) == max(later, 4)
    assert sum(each["kept"] for each in ledger) == 1


def test_ledger_of_a_complete_sweep_is_written(tmp_path: Path, answer: Any) -> None:  # noqa: F811
    cfg = Config({"optimizer": {"type": "SGD", "lr": 0.1}})
    answer(lambda config: ([config["optimizer"]["lr"]], ("done", "")))
    trials = study.sweep(cfg, [LR], settings(tmp_path))
    for trial in trials:
        (Path(trial.folder) / "iter_4.pth").write_text("")
    assert not (tmp_path / "ledger.md").exists()
    study.sweep(cfg, [LR], settings(tmp_path, keep_best=True))
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 4
    assert [(Path(trial.folder) / "iter_4.pth").exists() for trial in trials] == [True, False, False, False]


def test_nonfinite_scores_are_null_in_strict_json(tmp_path: Path, answer: Any) -> None:  # noqa: F811
    run(tmp_path, answer, lambda lr: ([math.nan, math.inf], ("done", "")))
    text = (tmp_path / "ledger.jsonl").read_text()
    assert [json.loads(line, parse_constant=pytest.fail)["score"] for line in text.splitlines()] == [None] * 4
    trial = study.TrialInfo(
        0, {"limit": (math.inf, 1), "rest": {"a": [math.nan]}}, "pruned", None, str(tmp_path / "a"), ""
    )
    update_ledger(str(tmp_path), "mIoU", [trial], cfg={})
    assert json.loads((tmp_path / "ledger.jsonl").read_text(), parse_constant=pytest.fail)["changed"] == {
        "limit": [None, 1],
        "rest": {"a": [None]},
    }


def _trial(folder: Path, number: int, *names: str) -> Any:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("")
    return study.TrialInfo(number, {}, "complete", 1.0 / (number + 1), str(folder), "")


def test_checkpoints_are_named_by_the_template_of_the_config(tmp_path: Path) -> None:
    cfg = {"default_hooks": {"checkpoint": {"filename_tmpl": "step-{:04d}.ckpt"}}}
    names = ("step-0004.ckpt", "best_my_mIoU_step-0004.ckpt", "iter_3.pth", "other-4.ckpt")
    trials = [_trial(tmp_path / "a", 0, *names), _trial(tmp_path / "b", 1, *names)]
    update_ledger(str(tmp_path), "mIoU", trials, cfg=cfg)
    assert {path.name for path in (tmp_path / "a").iterdir()} == set(names)
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"other-4.ckpt"}


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("section", ["default_hooks", "checkpoint_config"])
def test_checkpoints_in_out_dir_are_those_of_their_trial(tmp_path: Path, section: str, remote: bool) -> None:
    out_dir = f"memory://{tmp_path.name}_{section}" if remote else str(tmp_path / "out")
    hook = {"out_dir": out_dir}
    cfg = {"default_hooks": {"checkpoint": hook}} if section == "default_hooks" else {"checkpoint_config": hook}
    trials = [_trial(tmp_path / name, number) for number, name in enumerate("ab")]
    for trial in trials:
        for name in ("iter_4.pth", "mine.txt"):
            path = storage.join(out_dir, Path(trial.folder).name, name)
            storage.make_dirs(storage.parent(path))
            storage.commit_bytes(path, b"")
        (Path(trial.folder) / "last_checkpoint").write_text(
            storage.join(out_dir, Path(trial.folder).name, "iter_4.pth")
        )
    update_ledger(str(tmp_path), "mIoU", trials, cfg=cfg)
    assert storage.list_dir(storage.join(out_dir, "a")) == ["iter_4.pth", "mine.txt"]
    assert storage.list_dir(storage.join(out_dir, "b")) == ["mine.txt"]
    assert [(Path(trial.folder) / "last_checkpoint").exists() for trial in trials] == [True, False]
    records = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [each["kept"] for each in records] == [True, False]


def test_pointer_to_an_existing_checkpoint_is_kept(tmp_path: Path) -> None:
    trials = [_trial(tmp_path / "a", 0), _trial(tmp_path / "b", 1, "other-4.ckpt", "iter_4.pth")]
    for target, is_kept in (("other-4.ckpt", True), ("iter_4.pth", False)):
        (tmp_path / "b/last_checkpoint").write_text(str(tmp_path / "b" / target))
        update_ledger(str(tmp_path), "mIoU", trials, cfg={})
        assert (tmp_path / "b/last_checkpoint").exists() == is_kept


def test_checkpoints_of_a_running_trial_are_not_removed(tmp_path: Path) -> None:
    trials = [_trial(tmp_path / "a", 0, "iter_4.pth"), _trial(tmp_path / "b", 1, "iter_4.pth")]
    update_ledger(str(tmp_path), "mIoU", trials, cfg={}, in_use={str(tmp_path / "b")})
    assert (tmp_path / "b/iter_4.pth").exists()
    records = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [each["kept"] for each in records] == [True, True]
