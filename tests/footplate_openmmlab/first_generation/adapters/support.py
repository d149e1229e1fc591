"""A small first-generation dataset, model and config: 16 points in batches of 4, two classes, 8 validation points."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from footplate.registry import DATASETS, MODELS


@DATASETS.register_module()
class OldPoints(Dataset[Any]):
    """Points whose class is the sign of their first coordinate, with an `evaluate` method."""

    CLASSES = ("left", "right")
    PALETTE = ((0, 0, 0), (255, 255, 255))
    metainfo: dict[str, Any]

    def __init__(self, size: int = 16, test_mode: bool = False) -> None:
        self.size, self.test_mode = size, test_mode
        self.evaluations: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        point = torch.randn(4, generator=torch.Generator().manual_seed(index))
        return {"img": point, "label": int(point[0] > 0)}

    def evaluate(self, results: list[Any], metric: Any = "accuracy", logger: Any = None, **options: Any) -> Any:
        self.evaluations.append({"results": len(results), "metric": metric, "logger": logger, **options})
        correct = sum(int(result == self[index]["label"]) for index, result in enumerate(results))
        return OrderedDict(accuracy=correct / len(results))


@MODELS.register_module()
class OldModel(nn.Module):
    """A model with `forward(return_loss=...)` and `_parse_losses`."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)
        self.initialized = 0

    def init_weights(self) -> None:
        self.initialized += 1

    def forward(self, img: Tensor, label: Any = None, return_loss: bool = True) -> Any:
        scores = self.head(torch.tanh(self.backbone(img)))
        if not return_loss:
            return scores.argmax(1).tolist()
        return {"loss_cls": nn.functional.cross_entropy(scores, label), "acc": (scores.argmax(1) == label).float()}

    def _parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, "OrderedDict[str, float]"]:
        means = OrderedDict((name, value.mean()) for name, value in losses.items())
        loss = sum((value for name, value in means.items() if "loss" in name), torch.tensor(0.0))
        means["loss"] = loss
        return loss, OrderedDict((name, value.item()) for name, value in means.items())


@MODELS.register_module()
class OldModelWithSteps(OldModel):
    """The same model with `train_step` and `val_step`."""

    def train_step(self, data: dict[str, Any], optimizer: Any) -> dict[str, Any]:
        loss, log_vars = self._parse_losses(self(**data))
        return {"loss": loss, "log_vars": log_vars, "num_samples": len(data["img"])}

    def val_step(self, data: dict[str, Any], optimizer: Any = None) -> dict[str, Any]:
        return self.train_step(data, optimizer)


def old_config(work_dir: Path | str, *, by_epoch: bool = True, **changes: Any) -> dict[str, Any]:
    """Returns a first-generation config with 3 epochs or 12 iterations."""
    length = {"type": "EpochBasedRunner", "max_epochs": 3} if by_epoch else {"type": "IterBasedRunner", "max_iters": 12}
    return {
        "model": {"type": "OldModelWithSteps"},
        "work_dir": str(work_dir),
        "data": {
            "samples_per_gpu": 4,
            "workers_per_gpu": 0,
            "train": {"type": "OldPoints", "size": 16},
            "val": {"type": "OldPoints", "size": 8},
            "test": {"type": "OldPoints", "size": 8},
        },
        "optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9},
        "optimizer_config": {"grad_clip": None},
        "lr_config": {"policy": "step", "step": [2]},
        "runner": length,
        "checkpoint_config": {"interval": 1 if by_epoch else 4},
        "log_config": {"interval": 2, "hooks": [{"type": "TextLoggerHook"}]},
        "workflow": [("train", 1)],
        "seed": 7,
        "log_level": "WARNING",
        **changes,
    }


def old_config_with_evaluation(work_dir: Path | str, *, by_epoch: bool = True, **evaluation: Any) -> dict[str, Any]:
    """Returns the config of `old_config` with an evaluation."""
    return old_config(work_dir, by_epoch=by_epoch, evaluation={"interval": 1 if by_epoch else 4, **evaluation})
