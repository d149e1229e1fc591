"""Checkpoints of first-generation runs contain what first-generation code expects in them."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Config, Runner
from footplate.checkpoint import load_checkpoint
from footplate.engine.control.requests import Interrupted
from footplate_openmmlab.first_generation.adapters import Hook
from tests.footplate_openmmlab.first_generation.adapters.support import OldModelWithSteps, old_config


def train(work_dir: Path, *hooks: Hook, **changes: Any) -> dict[str, Any]:
    """Trains and returns the metadata in the last checkpoint."""
    Runner.from_cfg(Config(old_config(work_dir, custom_hooks=list(hooks), **changes))).train()
    meta: dict[str, Any] = load_checkpoint(work_dir / "epoch_3.pth")["meta"]
    return meta


@pytest.mark.parametrize(("score", "is_best"), [(2.0, False), (-1.0, True)])
def test_best_score_of_mmcv_counts(tmp_path: Path, score: float, is_best: bool) -> None:
    train(tmp_path, checkpoint_config={"interval": 1})
    saved = load_checkpoint(tmp_path / "epoch_2.pth")
    best = tmp_path / "best_accuracy_epoch_1.pth"
    best.touch()
    messages = {"best_score": np.float64(score), "best_ckpt": str(best)}
    meta = {"epoch": 2, "iter": 8, "hook_msgs": messages}
    torch.save({"meta": meta, "state_dict": saved["state_dict"]}, tmp_path / "mmcv.pth")
    evaluation = {"interval": 1, "save_best": "accuracy"}
    train(tmp_path / "resumed", resume_from=str(tmp_path / "mmcv.pth"), evaluation=evaluation)
    assert (tmp_path / "resumed/best_accuracy_epoch_3.pth").exists() == is_best


def test_averages_saved_by_mmcv_are_resumed(tmp_path: Path) -> None:
    hook: Any = {"type": "EMAHook", "momentum": 0.1}
    train(tmp_path, hook)
    saved = load_checkpoint(tmp_path / "epoch_2.pth")
    training = saved.pop("ema_state_dict")
    for name, parameter in OldModelWithSteps().named_parameters():  # mmcv has no averages of buffers
        saved["state_dict"][f"ema_{name.replace('.', '_')}"] = training[f"module.{name}"].reshape(parameter.shape)
    torch.save(saved, tmp_path / "mmcv.pth")
    train(tmp_path / "resumed", hook, resume_from=str(tmp_path / "mmcv.pth"))
    whole, resumed = (load_checkpoint(folder / "epoch_3.pth") for folder in (tmp_path, tmp_path / "resumed"))
    for part in ("state_dict", "ema_state_dict"):
        assert all(torch.equal(value, resumed[part][name]) for name, value in whole[part].items())


def test_latest_pth_is_a_link_to_the_newest_checkpoint(tmp_path: Path) -> None:
    class StopHook(Hook):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            if runner.iter == 5:
                signal.raise_signal(signal.SIGINT)

    link = tmp_path / "latest.pth"
    with pytest.raises(Interrupted):
        train(tmp_path, StopHook())
    assert link.readlink() == Path("on_signal.pth")
    train(tmp_path, resume_from=str(link))
    assert link.readlink() == Path("epoch_3.pth")
    assert not list(tmp_path.glob("*.partial"))
    train(tmp_path / "other", checkpoint_config={"create_symlink": False})
    assert not (tmp_path / "other" / "latest.pth").exists()
