"""The guide `docs/tasks/selfsup.md` is correct: its configs train on folders of images."""

from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.registry import MODELS
from tests.tasks.guides import SHORT, guide, trained, write_classes, write_configs

TWO_ITERATIONS = [
    *SHORT,
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


def test_a_checkpoint_initializes_a_classifier(tmp_path: Path) -> None:
    backbone = {"type": "SmallResNet", "in_channels": 1, "widths": (4,), "depths": (1,)}
    before = MODELS.build(backbone)
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in before.state_dict().items()}}, tmp_path / "it.pth")
    init = {"type": "Pretrained", "checkpoint": str(tmp_path / "it.pth"), "prefix": "backbone."}
    assert f"prefix='{init['prefix']}'" in guide("selfsup")
    begun = MODELS.build({**backbone, "init_cfg": init})
    begun.init_weights()
    assert torch.equal(begun.stem[0].weight, before.stem[0].weight)
