"""A run that starts in a folder with checkpoints of another run lists them, and those it replaces."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.engine.signals import save_on_request
from footplate.hooks import CheckpointHook
from tests.support import settings


def _run(work: Path, epochs: int = 2, hook: dict[str, Any] | None = None, **changes: Any) -> Runner:
    checkpoint = {"interval": 1, "save_best": "acc", "rule": "greater", **(hook or {})}
    cfg = settings(
        work,
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        default_hooks={"logger": None, "checkpoint": checkpoint},
        val_evaluator={"type": "Told", "values": {"acc": [2, 1, 0, 0, 0]}},
    )
    runner = Runner(**{**cfg, **changes})
    runner.train()
    return runner


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the warnings about replaced checkpoints since the last call."""
    found = [
        each.getMessage()
        for each in caplog.records
        if each.levelno == logging.WARNING
        and ("may overwrite" in each.getMessage() or "Overwriting" in each.getMessage())
    ]
    caplog.clear()
    return found


@pytest.mark.parametrize("suffix", ["pth", "sharded"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_run_without_resume_warns_about_replaced_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, elsewhere: bool
) -> None:
    out = {"out_dir": str(tmp_path / "out")} if elsewhere else {}
    folder = tmp_path / "out/work" if elsewhere else tmp_path / "work"
    hook = {"sharded": suffix == "sharded", **out}
    _run(tmp_path / "work", 3, hook)
    assert _told(caplog) == []
    (folder / "best_acc_epoch_1.onnx").write_bytes(b"")  # an exported model is no checkpoint
    _run(tmp_path / "work", 2, hook)
    assert _told(caplog) == [
        f"'{folder}' contains 4 checkpoints that this run may overwrite: best_acc_epoch_1.{suffix}, "
        f"epoch_1.{suffix}, epoch_2.{suffix} and 1 more. To keep existing checkpoints, choose a "
        f"different {'out_dir' if elsewhere else 'work_dir'}. To resume from them, pass --resume (resume=True).",
        f"Overwriting '{folder}/epoch_1.{suffix}', which existed before this run.",
        f"Overwriting '{folder}/best_acc_epoch_1.{suffix}', which existed before this run.",
        f"Overwriting '{folder}/epoch_2.{suffix}', which existed before this run.",
    ]


def test_resumed_run_replaces_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _run(tmp_path, 2)
    _run(tmp_path, 4, resume=True)
    assert _told(caplog) == []


def test_resume_from_earlier_checkpoint_warns_about_later_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _run(tmp_path, 3)
    caplog.clear()
    _run(tmp_path, 3, resume=True, load_from=str(tmp_path / "epoch_1.pth"))
    assert _told(caplog) == [
        f"'{tmp_path}' contains 2 checkpoints that this run may overwrite: epoch_2.pth, epoch_3.pth. "
        "To keep existing checkpoints, choose a different work_dir.",
        f"Overwriting '{tmp_path}/epoch_2.pth', which existed before this run.",
        f"Overwriting '{tmp_path}/epoch_3.pth', which existed before this run.",
    ]


def test_other_file_names_are_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("model_final.pth", "epoch_1.pt", "iter_3.pth", "epoch_1.sharded.txt"):
        save_checkpoint({"state_dict": {"a": torch.ones(1)}}, tmp_path / name)
    _run(tmp_path, 2)
    assert _told(caplog) == []
    assert list(load_checkpoint(tmp_path / "model_final.pth")["state_dict"]) == ["a"]


def test_best_files_are_not_mentioned_without_save_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _run(tmp_path / "work", 1)
    caplog.clear()
    _run(tmp_path / "work", 1, {"save_best": None, "rule": None})
    assert "contains 1 checkpoint that this run may overwrite: epoch_1.pth. " in _told(caplog)[0]
    assert CheckpointHook()._replaceable == set()


@pytest.mark.parametrize("suffix", ["pth", "sharded"])
def test_stop_position_of_earlier_run_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str) -> None:
    hook = {"sharded": suffix == "sharded"}
    for epochs in (2, 1, 3, 1):  # each run starts over
        runner = _run(tmp_path, epochs, hook)
        save_on_request(runner)
        runner.saver.settle()
    assert load_checkpoint(tmp_path / f"on_signal_earlier.{suffix}")["meta"]["iter"] == 12
    assert load_checkpoint(tmp_path / f"on_signal.{suffix}")["meta"]["iter"] == 4
    kept = "Keeping a checkpoint of an earlier run at a later iteration as "
    assert [each for each in caplog.messages if each.startswith(kept)] == [
        f"{kept}{tmp_path}/on_signal_earlier.{suffix}"
    ] * 2
