"""The guide `docs/tasks/selfsup.md` is correct: its configs train on folders of images."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.config import Config
from footplate.registry import MODELS
from footplate_vision.inference import Predictor, predict_files
from tests.docs.conftest import place  # noqa: F401 - a fixture
from tests.footplate_vision.guides import SHORT, TWO_EPOCHS, trained, write_classes, write_configs, write_own_configs

TWO_ITERATIONS = [
    *SHORT,
    "param_scheduler.0.end=1",
    "param_scheduler.1.begin=1",
    "param_scheduler.1.end=2",
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=4",
    "default_hooks.checkpoint.interval=2",
]


@pytest.mark.parametrize(
    ("name", "pictures"), [("my-simclr", {"val_neighbors"}), ("my-mae", {"val_neighbors", "val_reconstructions"})]
)
def test_configs_of_the_guide_train(name: str, pictures: set[str], current_folder: Path) -> None:
    write_classes(current_folder / "data", train=3, val=1, unlabeled=True)
    write_configs("selfsup", current_folder)
    runner = trained(f"{name}.py", TWO_ITERATIONS)
    loop: Any = runner.val_loop
    assert {"knn/top1", "linear/top1", "pixels/top1", "gain/knn/top1"} <= loop.metrics.keys()
    assert loop.metrics["pixels/top1"] == 100.0
    assert (len(runner.train_dataloader.dataset), len(runner.val_dataloader.dataset)) == (12, 12)
    drawn = {path.stem.rpartition("_")[0] for path in Path("out").glob("*/vis_data/vis_image/*.png")}
    assert pictures <= drawn


@pytest.mark.parametrize(
    ("name", "changes"), [("my-classifier.py", ["optim_wrapper.optimizer.lr=0"]), ("my-probe.py", [])]
)
def test_a_checkpoint_initializes_a_classifier(current_folder: Path, name: str, changes: list[str]) -> None:
    write_classes(current_folder / "data", train=2, val=1)
    write_own_configs("classification", Path("data"))
    write_configs("selfsup", current_folder)
    backbone = MODELS.build(Config.fromfile("my-mae.py").model.backbone)
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in backbone.state_dict().items()}}, "it.pth")
    runner = trained(name, [*TWO_EPOCHS, "model.backbone.init_cfg.checkpoint=it.pth", *changes])
    assert torch.equal(runner.model.backbone.patch_embed.weight, backbone.patch_embed.weight)


def test_own_method_updates_its_target_when_the_optimizer_steps(place: Path) -> None:  # noqa: F811
    write_classes(place / "data", train=3, val=1, unlabeled=True)
    write_configs("selfsup", place)
    runner = trained("my-byol.py", [*TWO_ITERATIONS, "+optim_wrapper.accumulative_counts=2"])
    assert runner.message_hub.get_scalar("train/target_momentum").data[0].tolist() == [1.0]
    assert "knn/top1" in runner.val_loop.metrics  # type: ignore[union-attr]


def test_unlabeled_images_suffice(current_folder: Path) -> None:
    write_classes(current_folder / "data", train=2, val=0, unlabeled=True)
    write_configs("selfsup", current_folder)
    trained("my-unlabeled.py", [line for line in TWO_ITERATIONS if not line.startswith("val_")])
    predict_files(Predictor("out/iter_2.pth"), ["data/train"], "features")
    assert runpy.run_path("neighbors.py")["order"].shape == (6, 6)
