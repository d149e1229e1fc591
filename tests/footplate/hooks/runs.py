"""Runs for tests of hooks."""

from pathlib import Path
from typing import Any

import torch

from footplate import Hook, Runner
from footplate.hooks import EMAHook
from footplate.models import BaseModel
from tests.support import loader, settings


def saving_runner(
    work: Path, epochs: int = 2, hook: dict[str, Any] | None = None, values: Any = (2, 1, 0, 0, 0), **changes: Any
) -> Runner:
    checkpoint = {"interval": 1, "save_best": "acc", "rule": "greater", **(hook or {})}
    cfg = settings(
        work,
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        default_hooks={"logger": None, "checkpoint": checkpoint},
        val_evaluator={"type": "Told", "values": {"acc": values}},
    )
    return Runner(**{**cfg, **changes})


class Counter(BaseModel):
    """One weight that grows by one with each iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, mode: str = "tensor", **batch: Any) -> Any:
        return {"loss": -self.weight.sum()} if mode == "loss" else [(self.weight.item(), 0)] * len(batch["labels"])


class Seen(Hook):
    priority = "LOWEST"

    def __init__(self) -> None:
        self.weights: list[float] = []
        self.validated: list[float] = []

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        average = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model
        assert average is not None
        self.weights.append(round(float(average.module.weight), 4))

    def after_val_iter(self, runner: Any, outputs: Any) -> None:  # type: ignore[override]
        self.validated.append(round(outputs[0][0], 4))


def configured(folder: Path, *hooks: Any, epochs: int = 3, kind: type[Runner] = Runner, **changes: Any) -> Runner:
    """Returns a run of a counter, with three iterations per epoch."""
    cfg = settings(
        folder,
        model=Counter(),
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 1.0}},
        param_scheduler=None,
        train_dataloader=loader(12),
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        custom_hooks=hooks,
        default_hooks={"logger": None, "checkpoint": {"interval": 1}},
    )
    return kind(**{**cfg, **changes})
