"""The recipe fashion-seg for every engine: its data, loaders, model and metric are footplate's in all of them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import footplate.recipes
from footplate.config import Config
from footplate.data import build_dataloader
from footplate.engine import simulate
from footplate.registry import METRICS, MODELS

GOAL = 50.0  # mIoU
LEFT_OUT = 20  # iterations until workers run as they will
_RECIPE = Path(footplate.recipes.__file__).parent / "configs" / "fashion-seg.py"


class Scenes:
    """One training on scenes: what an engine needs, and what came of it.

    Args:
        folder: Where the engine may write.
        iterations: How many at most; the schedule is that of the recipe whatever they are.
        val_interval: Iterations between two validations; 0: there are none.
        workers: Those of the training loader.
        began: When the engine's process was started, by `time.monotonic`.
    """

    def __init__(self, folder: Path, *, iterations: int, val_interval: int, workers: int, began: float) -> None:
        self.folder, self.iterations, self.val_interval = folder, iterations, val_interval
        self.results: list[tuple[int, float, float]] = []
        self.waited = 0.0
        self._began, self._workers = began, workers
        cfg = self.config()
        self.val_size = 500
        torch.manual_seed(0)
        self.model: Any = MODELS.build(cfg.model)
        self.metric: Any = METRICS.build(cfg.val_evaluator)
        self.metric.dataset_meta = self.val_loader().dataset.metainfo
        self._rates: list[float] = []

    def config(self) -> Any:
        """Returns the recipe, with the workers asked for."""
        cfg = Config.fromfile(str(_RECIPE))
        cfg.train_dataloader.num_workers = self._workers
        return cfg

    def train_loader(self) -> Any:
        """Returns the recipe's loader."""
        return build_dataloader(self.config().train_dataloader, seed=0)

    def val_loader(self) -> Any:
        """Returns the recipe's loader of validation data."""
        return build_dataloader(self.config().val_dataloader, seed=0)

    def optimizer(self) -> torch.optim.Optimizer:
        """Returns what the recipe's optim_wrapper makes, by hand."""
        spared: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for part in self.model.modules():
            for name, each in part.named_parameters(recurse=False):
                (spared if isinstance(part, nn.BatchNorm2d) or name == "bias" else others).append(each)
        groups: list[dict[str, Any]] = [{"params": others}, {"params": spared, "weight_decay": 0.0}]
        settings = {key: value for key, value in self.config().optim_wrapper.optimizer.items() if key != "type"}
        return torch.optim.AdamW(groups, **settings)

    def factor(self, step: int) -> float:
        """Returns the share of the learning rate after so many steps."""
        if not self._rates:
            cfg = self.config()
            found = next(iter(simulate(cfg, self.model).values()))["lr"]
            self._rates = [rate / cfg.optim_wrapper.optimizer.lr for rate in found]
        return self._rates[min(step, len(self._rates) - 1)]

    def validates_at(self, step: int) -> bool:
        """Tells whether a validation follows on that iteration."""
        return bool(self.val_interval) and step % self.val_interval == 0

    def process(self, predictions: Any) -> None:
        """Gives a batch of predictions to the metric, as footplate's evaluator does."""
        self.metric.process(None, [each.to_dict() for each in predictions])

    def reached(self, step: int, metrics: Any) -> None:
        """Notes what a validation found, and when."""
        self.results.append((step, float(metrics["mIoU"]), time.monotonic() - self._began))

    @property
    def has_reached(self) -> bool:
        """Whether the last validation found the goal reached."""
        return bool(self.results) and self.results[-1][1] >= GOAL

    def is_done(self, step: int) -> bool:
        """Tells whether the training is at its goal or its end."""
        return step >= self.iterations or self.has_reached

    def waited_for(self, loader: Any) -> "Waiting":
        """Returns the loader, watched: for engines that do not tell how long they wait for data."""
        return Waiting(loader, self)

    def figures(self) -> dict[str, float]:
        """Returns what came of it."""
        found = {"waited_percent": 100 * self.waited}
        if self.results:
            step, reached, seconds = self.results[-1]
            found |= {"seconds": seconds, "iterations": step, "mIoU": reached}
        return found


class Waiting:
    """A loader that notes which share of the time is spent waiting for it."""

    def __init__(self, loader: Any, scenes: Scenes) -> None:
        self._loader, self._scenes = loader, scenes

    def __iter__(self) -> Iterator[Any]:
        stream = iter(self._loader)
        began = waited = 0.0
        count = 0
        while True:
            asked = time.perf_counter()
            try:
                batch = next(stream)
            except StopIteration:
                return
            given = time.perf_counter()
            count += 1
            if count == LEFT_OUT:
                began = given
            elif count > LEFT_OUT:
                waited += given - asked
                self._scenes.waited = waited / (given - began)
            yield batch
