"""Writes and trains the configs of the guides in `docs/tasks/`, with fewer iterations."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from footplate.config import Config
from footplate.engine import Runner
from footplate.tools.overrides import apply_overrides
from footplate_vision.initial_config import write_config
from tests.modules import ROOT

# In this process.
SHORT = [
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
]
TWO_EPOCHS = [*SHORT, "train_cfg.max_epochs=2", "train_cfg.val_interval=1", "default_hooks.checkpoint.interval=1"]
ONE_EPOCH = [*TWO_EPOCHS, "train_cfg.max_epochs=1"]


def guide(task: str) -> str:
    """Returns the text of a guide."""
    return (ROOT / "docs" / "tasks" / f"{task}.md").read_text(encoding="utf-8")


def write_configs(task: str, folder: Path) -> list[str]:
    """Writes the configs of a guide, and returns their names."""
    found = re.findall(r'```python title="([^"]+)"\n(.*?)```', guide(task), re.DOTALL)
    for title, text in found:
        (folder / title).write_text(text)
    return [title for title, _ in found]


def write_own_configs(task: str, folder: Path) -> None:
    """Writes the configs of a guide into the current folder, which inherit from what `init` writes for `folder`."""
    write_configs(task, Path())
    Path(f"my_{task}.py").unlink()
    write_config(task, str(folder), f"my_{task}.py")


def trained(name: str, overrides: Sequence[str]) -> Runner:
    """Trains a config of the current folder in `out`."""
    cfg = Config.fromfile(name)
    apply_overrides(cfg, overrides)
    cfg.work_dir = "out"
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def write_classes(folder: Path, *, train: int, val: int, unlabeled: bool = False) -> None:
    """Writes a few images of several sizes for each of three classes, which differ in color.

    Args:
        folder: They go to `train/CLASS` and `val/CLASS` in it.
        train: How many of each class are to train on.
        val: How many are to validate on.
        unlabeled: Whether all of them are in `unlabeled` once more.
    """
    rng = np.random.default_rng(0)
    for label, name in enumerate(("boot", "sandal", "sneaker")):
        for number in range(train + val):
            pixels = rng.integers(0, 60, (70 + 10 * number, 90, 3))
            pixels[..., label] += 150
            paths = [folder / ("train" if number < train else "val") / name / f"{number}.png"]
            paths += [folder / "unlabeled" / f"{label}{number}.png"] if unlabeled else []
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
