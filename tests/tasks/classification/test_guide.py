"""The guide `docs/tasks/classification.md` tells the truth: its config trains on folders of pictures."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.config import Config, apply_overrides
from footplate.engine import Runner

GUIDE = Path(__file__).parents[3] / "docs" / "tasks" / "classification.md"
SHORT = [
    "train_cfg.max_epochs=2",
    "train_cfg.val_interval=1",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "param_scheduler.0.end=1",
    "param_scheduler.1.begin=1",
    "param_scheduler.1.end=2",
    "default_hooks.checkpoint.interval=1",
]


def write_pictures(folder: Path) -> None:
    """Of each class a few pictures of its own colour and of several sizes."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("boot", "sandal", "sneaker")):
        for number in range(6):
            path = folder / ("val" if number > 3 else "train") / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 60, (70 + 10 * number, 90, 3))
            pixels[..., label] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_the_config_trains_on_class_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data")
    ((title, text),) = re.findall(r'```python title="([^"]+)"\n(.*?)```', GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    Path(title).write_text(text)
    cfg = Config.fromfile(title)
    apply_overrides(cfg, SHORT)
    cfg.work_dir = "out"
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert list(runner.train_dataloader.dataset.metainfo["classes"]) == ["boot", "sandal", "sneaker"]
    assert (len(runner.train_dataloader.dataset), len(runner.val_dataloader.dataset)) == (12, 6)
    loop: Any = runner.val_loop
    matrix = loop.metrics["confusion_matrix/result"]
    assert matrix.sum(dim=1).tolist() == [2, 2, 2]
    assert list(Path("out").glob("best_accuracy_top1_epoch_*.pth"))
    pictures = {path.name for path in Path("out").glob("*/vis_data/vis_image/*.png")}
    assert "val_confusion_matrix_2.png" in pictures
