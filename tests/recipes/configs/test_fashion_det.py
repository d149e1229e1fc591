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


def recipe() -> Config:
    return Config.fromfile(find_config("fashion-det"))


def trained(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    cfg = recipe()
    apply_overrides(cfg, SHORT)
    cfg.work_dir = str(folder)
    runner = Runner.from_cfg(cfg)
    runner.train()
    lines = (Path(runner.log_dir) / "vis_data" / "scalars.json").read_text().splitlines()
    return torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"], [json.loads(line) for line in lines]


def untimed(line: dict[str, Any]) -> dict[str, Any]:
    timed = {"time", "data_time", "eta", "memory"}
    return {name: value for name, value in line.items() if name.rpartition("/")[2] not in timed}


def test_the_main_knobs_are_written_out() -> None:
    cfg = recipe()
    iters = cfg.train_cfg.max_iters
    assert iters % cfg.train_cfg.val_interval == 0
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval
    warmup, cosine = cfg.param_scheduler
    assert (warmup.begin, warmup.end, cosine.begin, cosine.end) == (0, cosine.begin, warmup.end, iters)
    assert (cosine.eta_min, cfg.randomness.seed) == (0, 0)


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
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert [untimed(line) for line in scalars] == [untimed(line) for line in scalars_again]
    assert {"coco/bbox_mAP", "coco/bbox_mAP_50", "coco/bbox_mAP_l"} <= scalars[2].keys()
    assert {"loss", "loss_cls", "loss_bbox", "iou"} <= scalars[0].keys()
    pictures = sorted(path.name for path in (tmp_path / "a").glob("*/vis_data/vis_image/*.png"))
    assert pictures == ["val_00002_2.png", "val_00002_4.png"]
    assert list((tmp_path / "a").glob("best_coco_bbox_mAP_iter_*.pth"))
