from pathlib import Path

import pytest

from tests.tasks.recipes.configs.support import (
    check_runs_are_bit_equal,
    check_split_uses_its_own_items,
    images_in,
    recipe,
)

# Overrides for a short run with a small network and few scenes.
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


def test_main_settings_are_consistent() -> None:
    cfg = recipe("fashion-seg")
    assert cfg.train_cfg.max_iters > cfg.train_cfg.val_interval > 0
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval
    assert cfg.randomness.seed == 0


def test_schedule_ends_with_the_training() -> None:
    cfg = recipe("fashion-seg")
    warmup, poly = cfg.param_scheduler
    assert (warmup.type, warmup.begin, warmup.by_epoch) == ("LinearLR", 0, False)
    assert (poly.type, poly.begin, poly.end, poly.eta_min) == ("PolyLR", 0, cfg.train_cfg.max_iters + 1, 0)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_split_uses_its_own_items(split: str) -> None:
    check_split_uses_its_own_items("fashion-seg", split)


def test_two_runs_are_bit_equal(tmp_path: Path) -> None:
    scalars = check_runs_are_bit_equal("fashion-seg", tmp_path, SHORT)
    assert len(scalars) == 6
    assert {"mIoU", "mDice", "mFscore", "aAcc"} <= scalars[2].keys()
    assert images_in(tmp_path / "a") == {"val_00002_2.png", "val_00002_4.png"}
    assert (tmp_path / "a" / "best_mIoU_iter_2.pth").exists() != (tmp_path / "a" / "best_mIoU_iter_4.pth").exists()
