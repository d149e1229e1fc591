import json
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.config import Config, apply_overrides
from footplate.engine import Runner
from footplate.recipes import find_config

# A run of seconds: a small network and few items.
SHORT = [
    "train_cfg.max_iters=4",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=8",
    "val_dataloader.batch_size=10",
    "+val_dataloader.dataset.per_class=[0,2]",
    "model.backbone.widths=[4,8]",
    "model.backbone.depths=[1,1]",
    "model.head.in_channels=8",
    "param_scheduler.0.end=2",
    "param_scheduler.1.begin=2",
    "param_scheduler.1.end=4",
    "default_hooks.checkpoint.interval=2",
    "default_hooks.logger.interval=1",
    "default_hooks.visualization.max_samples=1",
]
TIMED = {"time", "data_time", "eta", "memory"}


def recipe() -> Config:
    return Config.fromfile(find_config("fashion-cls"))


def trained(folder: Path, **further: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    cfg = recipe()
    apply_overrides(cfg, SHORT)
    cfg.merge_from_dict({"work_dir": str(folder), **further})
    runner = Runner.from_cfg(cfg)
    runner.train()
    lines = (Path(runner.log_dir) / "vis_data" / "scalars.json").read_text().splitlines()
    scalars = [{k: v for k, v in json.loads(line).items() if k.rpartition("/")[2] not in TIMED} for line in lines]
    return torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"], scalars


def test_the_main_knobs_fit_together() -> None:
    cfg = recipe()
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin
    assert cfg.param_scheduler[1].end == cfg.train_cfg.max_iters
    assert cfg.model.head.loss.label_smooth_val > 0
    assert cfg.model.data_preprocessor.batch_augments.augments.type == "Mixup"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_training_and_testing_see_their_own_items(split: str) -> None:
    dataset = recipe()[f"{split}_dataloader"].dataset
    assert dataset.split == ("train" if split == "train" else "test")
    assert "per_class" not in dataset


def test_a_second_run_gives_the_same_numbers(tmp_path: Path) -> None:
    weights, scalars = trained(tmp_path / "a")
    again, scalars_again = trained(tmp_path / "b")
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert len(scalars) == 6
    assert scalars == scalars_again
    assert {"accuracy/top1", "accuracy/top3", "single-label/f1-score"} <= scalars[2].keys()
    pictures = {path.name for path in (tmp_path / "a").glob("*/vis_data/vis_image/*.png")}
    assert {"val_confusion_matrix_2.png", "val_confusion_matrix_4.png"} < pictures
    assert len(list((tmp_path / "a").glob("best_accuracy_top1_iter_*.pth"))) == 1


def test_a_resumed_run_mixes_the_same_pictures(tmp_path: Path) -> None:
    always = {"model.data_preprocessor.batch_augments.probs": 1.0}
    weights, _ = trained(tmp_path / "whole", **always)
    middle = str(tmp_path / "whole" / "iter_2.pth")
    again, _ = trained(tmp_path / "resumed", load_from=middle, resume=True, **always)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
