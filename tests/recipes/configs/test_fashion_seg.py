import json
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.config import Config, apply_overrides
from footplate.engine import Runner
from footplate.recipes import find_config

# A run of seconds: a small network on scenes that are few.
SHORT = [
    "train_cfg.max_iters=4",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=4",
    "val_dataloader.batch_size=2",
    "+val_dataloader.dataset.length=4",
    "model.widths=[8,12]",
    "model.depths=[1,1]",
    "default_hooks.checkpoint.interval=2",
    "default_hooks.logger.interval=1",
    "default_hooks.visualization.interval=2",
    "default_hooks.visualization.max_samples=1",
]


def recipe() -> Config:
    return Config.fromfile(find_config("fashion-seg"))


def trained(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    cfg = recipe()
    apply_overrides(cfg, SHORT)
    cfg.work_dir = str(folder)
    runner = Runner.from_cfg(cfg)
    runner.train()
    lines = (Path(runner.log_dir) / "vis_data" / "scalars.json").read_text().splitlines()
    return torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"], [json.loads(line) for line in lines]


def test_the_main_knobs_are_written_out() -> None:
    cfg = recipe()
    assert cfg.train_cfg.max_iters > cfg.train_cfg.val_interval > 0
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval
    assert cfg.randomness.seed == 0


def test_the_schedule_ends_with_the_training() -> None:
    cfg = recipe()
    warmup, poly = cfg.param_scheduler
    assert (warmup.type, warmup.begin, warmup.by_epoch) == ("LinearLR", 0, False)
    assert (poly.type, poly.begin, poly.end, poly.eta_min) == ("PolyLR", 0, cfg.train_cfg.max_iters + 1, 0)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_training_and_testing_see_their_own_items(split: str) -> None:
    dataset = recipe()[f"{split}_dataloader"].dataset
    assert dataset.split == ("train" if split == "train" else "test")
    if split != "train":
        assert "style" not in dataset
        assert dataset.get("length", 500) == 500


def test_a_second_run_gives_the_same_numbers(tmp_path: Path) -> None:
    weights, scalars = trained(tmp_path / "a")
    again, scalars_again = trained(tmp_path / "b")
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    timed = {"time", "data_time", "val/time", "val/data_time", "eta", "memory"}
    assert len(scalars) == 6
    for line, other in zip(scalars, scalars_again, strict=True):
        assert {k: v for k, v in line.items() if k not in timed} == {k: v for k, v in other.items() if k not in timed}
    assert {"mIoU", "mDice", "mFscore", "aAcc"} <= scalars[2].keys()
    pictures = sorted(path.name for path in (tmp_path / "a").glob("*/vis_data/vis_image/*.png"))
    assert pictures == ["val_00002_2.png", "val_00002_4.png"]
    assert (tmp_path / "a" / "best_mIoU_iter_2.pth").exists() != (tmp_path / "a" / "best_mIoU_iter_4.pth").exists()
