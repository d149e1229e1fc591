"""The guide `docs/tasks/segmentation.md` is correct: its configs train on image folders."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.config import Config
from footplate.engine import Runner
from footplate.registry import METRICS
from footplate.tools.overrides import apply_overrides
from tests.footplate_vision.guides import write_own_configs

SHORT = [
    "train_cfg.max_epochs=2",
    "train_cfg.val_interval=1",
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "default_hooks.checkpoint.interval=1",
]
DAYS = """
_base_ = 'my_segmentation.py'
val_dataloader = dict(
    _delete_=True,
    day=_base_.val_dataloader,
    night=dict(
        batch_size=8,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='BaseSegDataset', data_root='night', data_prefix=dict(img_path='images', seg_map_path='masks'),
            metainfo=dict(classes=_base_.classes), pipeline=_base_.val_pipeline, test_mode=True)))
test_dataloader = val_dataloader
val_cfg = dict(type='ValLoop', loss=True)
default_hooks = dict(checkpoint=dict(save_best=['day/mIoU', 'night/mIoU'], max_keep_best=2))
"""
SMALL = {"my-segformer.py": ["model.config.hidden_sizes=[8,8,20,16]", "model.config.depths=[1,1,1,1]"]}


def write_data(folder: Path, *, split: str, number: int = 3) -> None:
    """Writes scenes of a road, a car and a tree in several sizes and formats."""
    rng = np.random.default_rng(0)
    for at in range(number):
        height, width = 40 + 6 * at, 60 + 4 * at
        labels = np.zeros((height, width), np.uint8)
        labels[5:20, 5:25], labels[20:38, 30:50], labels[-2:] = 1, 2, 255
        pixels = rng.integers(0, 60, (height, width, 3)) + 60 * (labels % 3)[..., None]
        for kind, values, suffix in (("images", pixels, ("jpg", "png")[at % 2]), ("masks", labels, "png")):
            path = folder / kind / split / f"part{at % 2}" / f"{at}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path)


@pytest.fixture
def place(current_folder: Path) -> Path:
    """Returns a folder with the configs of the guide, one with two validation sets, and the data."""
    for split in ("train", "val"):
        write_data(current_folder / "data", split=split)
    (current_folder / "data/classes.txt").write_text("road\ncar\ntree\n")
    write_own_configs("segmentation", Path("data"))
    (current_folder / "my-days.py").write_text(DAYS)
    write_data(current_folder / "night", split="")
    return current_folder


def prepared(name: str) -> Runner:
    cfg = Config.fromfile(name)
    apply_overrides(cfg, [*SHORT, *SMALL.get(name, ())])
    cfg.work_dir = "out"
    for key in ("val_dataloader", "test_dataloader"):
        for each in [cfg[key]] if "dataset" in cfg[key] else cfg[key].values():
            each.update(num_workers=0, persistent_workers=False, batch_size=3)
    return Runner.from_cfg(cfg)


@pytest.mark.parametrize("name", ["my-days.py", "my-segformer.py"])
@pytest.mark.filterwarnings("default:::transformers")
def test_config_of_the_guide_trains(place: Path, name: str) -> None:
    runner = prepared(name)
    runner.train()
    metrics: Any = runner.val_loop.metrics  # type: ignore[union-attr]
    prefix = "day/" if name == "my-days.py" else ""
    expected = {f"{prefix}{key}" for key in ("mIoU", "mFscore", "IoU.road", "IoU.car", "IoU.tree", "loss", "loss_ce")}
    assert expected | ({"night/mIoU", "night/loss"} if prefix else set()) <= metrics.keys()
    assert 0 <= metrics[f"{prefix}mIoU"] <= 100
    best = {path.name.partition("_epoch")[0] for path in (place / "out").glob("best_*")}
    assert best == ({"best_day_mIoU", "best_night_mIoU"} if prefix else {"best_mIoU"})


def test_views_are_merged(place: Path) -> None:
    runner = prepared("my-views.py")
    seen: list[Any] = []
    score = runner.model.score
    runner.model.score = lambda inputs: seen.append(tuple(inputs.shape)) or score(inputs)  # type: ignore[func-returns-value]
    assert 0 <= runner.test()["mIoU"] <= 100
    assert seen == [(3, 3, 39, 51)] * 2 + [(3, 3, 52, 68)] * 2


def test_custom_metric_selects_the_best_checkpoint(place: Path) -> None:
    try:
        runner = prepared("my-own-metric.py")
        runner.train()
    finally:
        sys.modules.pop("my_metric", None)
        METRICS._entries.pop("ShareError", None)
    assert len(list((place / "out").glob("*/vis_data/vis_image/val_*.png"))) == 4
    found = runner.val_loop.metrics  # type: ignore[union-attr]
    assert {"share_error", "mIoU"} <= found.keys()
    labels = [np.asarray(Image.open(path)) for path in sorted((place / "data/masks/val").glob("*/*.png"))]
    assert 0 <= found["share_error"] <= 100 * max(1 - (each == 1).mean() for each in labels)
    assert list((place / "out").glob("best_share_error_epoch_*.pth"))
