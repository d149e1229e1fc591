from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.engine import Runner
from tests.tasks.recipes.configs.support import (
    check_runs_are_bit_equal,
    images_in,
    recipe,
    scalars_of,
    short_runner,
    trained,
    weights_of,
)

NAMES = ["fashion-simclr", "fashion-mae"]
# Overrides for a short run with a small network and few items.
SHORT = [
    "train_cfg.max_iters=4",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=8",
    "val_dataloader.batch_size=25",
    "+val_dataloader.dataset.datasets.0.per_class=[0,2]",
    "+val_dataloader.dataset.datasets.1.per_class=[0,4]",
    "param_scheduler.0.end=2",
    "param_scheduler.1.begin=2",
    "param_scheduler.1.end=4",
    "default_hooks.checkpoint.interval=2",
    "default_hooks.logger.interval=1",
]
SMALL = {
    "fashion-simclr": [
        *SHORT,
        "model.backbone.widths=[4,8]",
        "model.backbone.depths=[1,1]",
        "model.neck.in_channels=8",
        "model.neck.hid_channels=8",
    ],
    "fashion-mae": [
        *SHORT,
        "model.backbone.embed_dims=16",
        "model.backbone.num_layers=1",
        "optim_wrapper.paramwise_cfg.num_layers=1",
        "model.neck.embed_dim=16",
        "model.neck.decoder_embed_dim=8",
    ],
}


@pytest.mark.parametrize("name", NAMES)
def test_main_settings_are_consistent(name: str) -> None:
    cfg = recipe(name)
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin
    assert cfg.param_scheduler[1].end == cfg.train_cfg.max_iters
    assert cfg.randomness.seed == 0
    assert cfg.optim_wrapper.optimizer.type == {"fashion-simclr": "LARS", "fashion-mae": "AdamW"}[name]


@pytest.mark.parametrize("name", NAMES)
def test_training_uses_no_test_items(name: str) -> None:
    cfg = recipe(name)
    assert cfg.train_dataloader.dataset.split == "train"
    for dataset in cfg.val_dataloader.dataset.datasets:
        assert dataset.pipeline[-1].part == dataset.split
        assert "per_class" not in dataset


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_are_bit_equal(name: str, tmp_path: Path) -> None:
    scalars = check_runs_are_bit_equal(name, tmp_path, SMALL[name])
    assert [line["step"] for line in scalars] == [0, 1, 2, 2, 3, 4, 4]
    first, last = scalars[0], scalars[-1]
    assert {"knn/top1", "linear/top1"} <= first.keys()
    for key in ("knn/top1", "linear/top1"):
        assert last[f"gain/{key}"] == pytest.approx(last[key] - first[key])
    pictures = images_in(tmp_path / "a")
    assert {"val_neighbors_0.png", "val_neighbors_4.png"} <= pictures
    assert ("val_reconstructions_4.png" in pictures) == (name == "fashion-mae")


def test_lars_excludes_norms_and_biases() -> None:
    runner = short_runner("fashion-simclr", Path("unused"), SMALL["fashion-simclr"])
    model, groups = runner.model, runner.optim_wrapper.param_groups
    excluded = {id(each) for group in groups if group["lars_exclude"] for each in group["params"]}
    flat = {name for name, each in model.named_parameters() if each.ndim == 1}
    assert {name for name, each in model.named_parameters() if id(each) in excluded} == flat


def test_learning_rates_decrease_towards_the_input() -> None:
    cfg = recipe("fashion-mae")
    cfg.work_dir = "unused"
    runner = Runner.from_cfg(cfg)
    rates = {id(each): group["lr"] for group in runner.optim_wrapper.param_groups for each in group["params"]}
    backbone: Any = runner.model.backbone
    falling = [rates[id(backbone.patch_embed.weight)], *(rates[id(each.linear1.weight)] for each in backbone.layers)]
    assert falling == sorted(falling)
    assert len(set(falling)) == cfg.optim_wrapper.paramwise_cfg.num_layers + 1


@pytest.mark.parametrize("name", NAMES)
def test_resume_is_bit_equal(name: str, tmp_path: Path) -> None:
    weights, scalars = trained(name, tmp_path / "whole", SMALL[name])
    middle = str(tmp_path / "whole" / "iter_2.pth")
    runner = short_runner(name, tmp_path / "resumed", SMALL[name], load_from=middle, resume=True)
    runner.train()
    again = weights_of(tmp_path / "resumed" / "iter_4.pth")
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    loop: Any = runner.val_loop
    for key in ("gain/knn/top1", "gain/linear/top1"):
        assert loop.metrics[key] == scalars[-1][key]


def test_epoch_based_run_is_validated_before_training(tmp_path: Path) -> None:
    epochs: dict[str, Any] = {
        "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 2, "val_interval": 2, "_delete_": True},
        "train_dataloader.sampler.type": "DefaultSampler",
        "train_dataloader.dataset.per_class": (0, 2),
        "param_scheduler": None,
        "default_hooks.checkpoint.by_epoch": True,
    }
    short_runner("fashion-mae", tmp_path, SMALL["fashion-mae"], **epochs).train()
    validations = [line for line in scalars_of(tmp_path) if "knn/top1" in line]
    assert ["gain/knn/top1" in line for line in validations] == [False, True]
