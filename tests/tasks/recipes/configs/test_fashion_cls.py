from pathlib import Path

import pytest
import torch

from tests.tasks.recipes.configs.support import check_runs_are_bit_equal, images_in, recipe, trained

# Overrides for a short run with a small network and few items.
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


def test_main_settings_are_consistent() -> None:
    cfg = recipe("fashion-cls")
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin
    assert cfg.param_scheduler[1].end == cfg.train_cfg.max_iters
    assert cfg.model.head.loss.label_smooth_val > 0
    assert cfg.model.data_preprocessor.batch_augments.augments.type == "Mixup"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_split_uses_its_own_items(split: str) -> None:
    dataset = recipe("fashion-cls")[f"{split}_dataloader"].dataset
    assert dataset.split == ("train" if split == "train" else "test")
    assert "per_class" not in dataset


def test_two_runs_are_bit_equal(tmp_path: Path) -> None:
    scalars = check_runs_are_bit_equal("fashion-cls", tmp_path, SHORT)
    assert len(scalars) == 6
    assert {"accuracy/top1", "accuracy/top3", "single-label/f1-score"} <= scalars[2].keys()
    assert {"val_confusion_matrix_2.png", "val_confusion_matrix_4.png"} < images_in(tmp_path / "a")
    assert len(list((tmp_path / "a").glob("best_accuracy_top1_iter_*.pth"))) == 1


def test_resume_with_mixup_is_bit_equal(tmp_path: Path) -> None:
    always = {"model.data_preprocessor.batch_augments.probs": 1.0}
    weights, _ = trained("fashion-cls", tmp_path / "whole", SHORT, **always)
    middle = str(tmp_path / "whole" / "iter_2.pth")
    again, _ = trained("fashion-cls", tmp_path / "resumed", SHORT, load_from=middle, resume=True, **always)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
