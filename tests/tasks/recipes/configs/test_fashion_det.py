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
    "model.widths=[8,12,16]",
    "model.depths=[1,1,1]",
    "model.levels=2",
    "model.head_width=8",
    "model.test_cfg.score_thr=0.0",
    "default_hooks.checkpoint.interval=2",
    "default_hooks.logger.interval=1",
    "default_hooks.visualization.interval=2",
    "default_hooks.visualization.max_samples=1",
]


def test_main_settings_are_consistent() -> None:
    cfg = recipe("fashion-det")
    iters = cfg.train_cfg.max_iters
    assert iters % cfg.train_cfg.val_interval == 0
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval
    warmup, cosine = cfg.param_scheduler
    assert (warmup.begin, warmup.end, cosine.begin, cosine.end) == (0, cosine.begin, warmup.end, iters)
    assert (cosine.eta_min, cfg.randomness.seed) == (0, 0)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_split_uses_its_own_items(split: str) -> None:
    check_split_uses_its_own_items("fashion-det", split)


def test_two_runs_are_bit_equal(tmp_path: Path) -> None:
    scalars = check_runs_are_bit_equal("fashion-det", tmp_path, SHORT)
    assert {"coco/bbox_mAP", "coco/bbox_mAP_50", "coco/bbox_mAP_l"} <= scalars[2].keys()
    assert {"loss", "loss_cls", "loss_bbox", "iou"} <= scalars[0].keys()
    assert images_in(tmp_path / "a") == {"val_00002_2.png", "val_00002_4.png"}
    assert list((tmp_path / "a").glob("best_coco_bbox_mAP_iter_*.pth"))
