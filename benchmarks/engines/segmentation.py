"""The recipe fashion-seg for every engine, with footplate's data, loaders, model and metric."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import footplate_vision.recipes
from footplate.config import Config
from footplate.data import build_dataloader
from footplate.registry import METRICS, MODELS
from footplate.tools.simulation import simulate

GOAL = 55.0  # mIoU
LEFT_OUT = 20  # the number of warm-up iterations of the workers
_RECIPE = Path(footplate_vision.recipes.__file__).parent / "configs" / "fashion-seg.py"


class Scenes:
    """The components and the results of one training on scenes.

    Args:
        folder: The output folder of the engine.
        iterations: The maximum number of iterations; the schedule does not depend on it.
        val_interval: The number of iterations between two validations; 0 for no validation.
        workers: The number of workers of the training loader.
        began: The start time of the engine's process, by `time.monotonic`.
    """

    def __init__(self, folder: Path, *, iterations: int, val_interval: int, workers: int, began: float) -> None:
        self.folder, self.iterations, self.val_interval = folder, iterations, val_interval
        self.results: list[tuple[int, float, float, float]] = []
        self.waited = 0.0
        self._began, self._workers = began, workers
        cfg = self.config()
        self.val_size = 500
        torch.manual_seed(0)
        self.model: Any = MODELS.build(cfg.model).to(memory_format=torch.channels_last)  # as in the recipe
        self.metric: Any = METRICS.build(cfg.val_evaluator)
        self.metric.dataset_meta = self.val_loader().dataset.metainfo
        self._rates: list[float] = []

    def config(self) -> Any:
        """Returns the recipe with the requested number of workers."""
        cfg = Config.fromfile(str(_RECIPE))
        cfg.train_dataloader.num_workers = self._workers
        return cfg

    def train_loader(self) -> Any:
        """Returns the recipe's training loader."""
        return build_dataloader(self.config().train_dataloader, seed=0)

    def val_loader(self) -> Any:
        """Returns the recipe's validation loader."""
        return build_dataloader(self.config().val_dataloader, seed=0)

    def optimizer(self) -> torch.optim.Optimizer:
        """Returns a plain torch optimizer with the settings of the recipe."""
        spared: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for part in self.model.modules():
            for name, each in part.named_parameters(recurse=False):
                (spared if isinstance(part, nn.BatchNorm2d) or name == "bias" else others).append(each)
        groups: list[dict[str, Any]] = [{"params": others}, {"params": spared, "weight_decay": 0.0}]
        settings = {key: value for key, value in self.config().optim_wrapper.optimizer.items() if key != "type"}
        return torch.optim.AdamW(groups, **settings)

    def factor(self, step: int) -> float:
        """Returns the factor of the learning rate after `step` steps."""
        if not self._rates:
            cfg = self.config()
            found = next(iter(simulate(cfg, self.model).values()))["lr"]
            self._rates = [rate / cfg.optim_wrapper.optimizer.lr for rate in found]
        return self._rates[min(step, len(self._rates) - 1)]

    def validates_at(self, step: int) -> bool:
        """Checks whether a validation follows an iteration."""
        return bool(self.val_interval) and step % self.val_interval == 0

    def process(self, predictions: Any) -> None:
        """Passes a batch of predictions to the metric, as footplate's evaluator does."""
        self.metric.process(None, [each.to_dict() for each in predictions])

    def reached(self, step: int, metrics: Any) -> None:
        """Records the result of a validation, the time since the start, and the processor time of the process."""
        self.results.append((step, float(metrics["mIoU"]), time.monotonic() - self._began, sum(os.times()[:4])))

    @property
    def has_reached(self) -> bool:
        """Whether the last validation reached the goal."""
        return bool(self.results) and self.results[-1][1] >= GOAL

    def is_done(self, step: int) -> bool:
        """Checks whether training reached its goal or its end."""
        return step >= self.iterations or self.has_reached

    def waited_for(self, loader: Any) -> "Waiting":
        """Wraps a loader to measure the waiting time, for engines that do not report it."""
        return Waiting(loader, self)

    def figures(self) -> dict[str, float]:
        """Returns the figures of the training."""
        found = {"waited_percent": 100 * self.waited}
        if self.results:
            step, reached, seconds, processor = self.results[-1]
            found |= {"seconds": seconds, "processor": processor, "iterations": step, "mIoU": reached}
        return found


class Waiting:
    """A loader that measures the fraction of time spent waiting for it."""

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
