"""Configs for both footplate and mmengine: a small run of five files, and a large config to load."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

_FILES = {
    "_base_/model.py": 'model = dict(type="SmallClassifier", width=64)\n',
    "_base_/data.py": (
        "train_dataloader = dict(\n"
        '    batch_size=8, num_workers=0, dataset=dict(type="SmallPoints", length=800),\n'
        '    sampler=dict(type="DefaultSampler", shuffle=True), collate_fn=dict(type="default_collate"))\n'
    ),
    "_base_/schedule.py": (
        'train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=3)\n'
        'optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3))\n'
        'param_scheduler = [dict(type="LinearLR", start_factor=1.0, end_factor=0.0, by_epoch=True, begin=0, end=3)]\n'
    ),
    "_base_/runtime.py": (
        'default_hooks = dict(logger=dict(type="LoggerHook", interval=50),\n'
        '    checkpoint=dict(type="CheckpointHook", interval=1))\n'
        "randomness = dict(seed=0)\n"
    ),
    "small.py": (
        '_base_ = ["_base_/model.py", "_base_/data.py", "_base_/schedule.py", "_base_/runtime.py"]\n'
        "optim_wrapper = dict(optimizer=dict(weight_decay=0.05))\n"
    ),
}
_PIPELINES = 60


class SmallPoints(Dataset[Any]):
    """A dataset of random points with two classes."""

    def __init__(self, length: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._points = torch.randn(length, 32, generator=generator)
        self._labels = torch.randint(0, 2, (length,), generator=generator)

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._points[index], self._labels[index]


def register(models: Any, datasets: Any, base: type) -> None:
    """Registers the model and the dataset of the small config in an engine's registries."""

    class SmallClassifier(base):  # type: ignore[misc]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, 2))

        def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
            scores = self.layers(inputs)
            return {"loss": F.cross_entropy(scores, labels)} if mode == "loss" else scores

    models.register_module(module=SmallClassifier, force=True)
    datasets.register_module(module=SmallPoints, force=True)


def write(folder: Path) -> Path:
    """Writes the small config and returns its path."""
    for name, text in _FILES.items():
        path = folder / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "configs" / "small.py"


def write_large(folder: Path) -> Path:
    """Writes a config of some 4,000 values with two levels of inheritance, and returns its path."""
    base = folder / "large"
    base.mkdir(parents=True, exist_ok=True)
    steps = "".join(
        f'    dict(type="Resize", scale=({600 + number}, 1333), '
        f"keep_ratio=True, levels=dict(low={number}, high=[1, 2])),\n"
        '    dict(type="RandomFlip", prob=0.5, direction=["horizontal", "vertical"]),\n'
        f'    dict(type="Normalize", mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], key="step{number}"),\n'
        for number in range(_PIPELINES)
    )
    classes = ", ".join(f'"class{number}"' for number in range(200))
    (base / "data.py").write_text(f"train_pipeline = [\n{steps}]\nclasses = ({classes})\n")
    (base / "middle.py").write_text('_base_ = ["data.py"]\nval_pipeline = [dict(type="Pad", size=(640, 640))]\n')
    (base / "large.py").write_text(
        '_base_ = ["middle.py"]\ntrain_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))\n'
    )
    return base / "large.py"
