"""The guide `docs/tasks/selfsup.md` tells the truth: its configs train on folders of pictures."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.config import Config, apply_overrides
from footplate.engine import Runner
from footplate.registry import MODELS

GUIDE = Path(__file__).parents[3] / "docs" / "tasks" / "selfsup.md"
SHORT = [
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=4",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "param_scheduler.0.end=1",
    "param_scheduler.1.begin=1",
    "param_scheduler.1.end=2",
    "default_hooks.checkpoint.interval=2",
]


def write_pictures(folder: Path) -> None:
    """Of each class a few pictures of its own colour and of several sizes."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("boot", "sandal", "sneaker")):
        for number in range(4):
            part = "val" if number > 2 else "train"
            pixels = rng.integers(0, 60, (70 + 10 * number, 90, 3))
            pixels[..., label] += 150
            for path in (folder / part / name / f"{number}.png", folder / "unlabeled" / f"{label}{number}.png"):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_configs() -> None:
    for title, text in re.findall(r'```python title="([^"]+)"\n(.*?)```', GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        Path(title).write_text(text)


@pytest.mark.parametrize("name", ["my-simclr", "my-mae"])
def test_the_configs_train_on_folders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data")
    write_configs()
    cfg = Config.fromfile(f"{name}.py")
    apply_overrides(cfg, SHORT)
    cfg.work_dir = "out"
    runner = Runner.from_cfg(cfg)
    runner.train()
    loop: Any = runner.val_loop
    assert {"knn/top1", "linear/top1", "pixels/top1", "gain/knn/top1"} <= loop.metrics.keys()
    assert loop.metrics["pixels/top1"] == 100.0
    assert (len(runner.train_dataloader.dataset), len(runner.val_dataloader.dataset)) == (12, 12)


def test_a_checkpoint_is_the_beginning_of_a_classifier(tmp_path: Path) -> None:
    backbone = {"type": "SmallResNet", "in_channels": 1, "widths": (4,), "depths": (1,)}
    trained = MODELS.build(backbone)
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in trained.state_dict().items()}}, tmp_path / "it.pth")
    init = {"type": "Pretrained", "checkpoint": str(tmp_path / "it.pth"), "prefix": "backbone."}
    assert f"prefix='{init['prefix']}'" in GUIDE.read_text(encoding="utf-8")
    begun = MODELS.build({**backbone, "init_cfg": init})
    begun.init_weights()
    assert torch.equal(begun.stem[0].weight, trained.stem[0].weight)
