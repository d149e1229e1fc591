from pathlib import Path

import pytest

from tests.recipes.configs.support import check_a_second_run_is_the_same, check_items_are_apart, pictures_in, recipe

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


def test_the_main_knobs_are_written_out() -> None:
    cfg = recipe("fashion-seg")
    assert cfg.train_cfg.max_iters > cfg.train_cfg.val_interval > 0
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval
    assert cfg.randomness.seed == 0


def test_the_schedule_ends_with_the_training() -> None:
    cfg = recipe("fashion-seg")
    warmup, poly = cfg.param_scheduler
    assert (warmup.type, warmup.begin, warmup.by_epoch) == ("LinearLR", 0, False)
    assert (poly.type, poly.begin, poly.end, poly.eta_min) == ("PolyLR", 0, cfg.train_cfg.max_iters + 1, 0)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_training_and_testing_see_their_own_items(split: str) -> None:
    check_items_are_apart("fashion-seg", split)


def test_a_second_run_gives_the_same_numbers(tmp_path: Path) -> None:
    scalars = check_a_second_run_is_the_same("fashion-seg", tmp_path, SHORT)
    assert len(scalars) == 6
    assert {"mIoU", "mDice", "mFscore", "aAcc"} <= scalars[2].keys()
    assert pictures_in(tmp_path / "a") == {"val_00002_2.png", "val_00002_4.png"}
    assert (tmp_path / "a" / "best_mIoU_iter_2.pth").exists() != (tmp_path / "a" / "best_mIoU_iter_4.pth").exists()
