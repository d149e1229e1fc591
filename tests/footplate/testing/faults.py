"""Components with faults that people write, each of which breaks an exact resume."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from footplate import Runner
from footplate.engine import Hook
from footplate.evaluation import BaseMetric
from footplate.optim import OptimWrapper
from tests.support import Points, ToyModel, loader, settings


class Crop:
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        return {**sample, "inputs": sample["inputs"] + float(self.rng.normal())}


class Jitter:
    """Keeps the last sample."""

    last: Any = 0.0

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        mixed = {**sample, "inputs": sample["inputs"] + 0.1 * self.last}
        self.last = sample["inputs"]
        return mixed


class OwnPoints(Points):
    """Points with transforms."""

    def __init__(self, *transforms: Any) -> None:
        super().__init__()
        self.transforms = transforms

    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        for transform in self.transforms:
            sample = transform(sample)
        return sample


class OwnGenerator(Points):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        return {**sample, "inputs": sample["inputs"] + torch.randn(4, generator=self.generator)}


class FillingCache(Points):
    """Caches the augmented samples."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[int, Any] = {}

    def __getitem__(self, index: int) -> Any:
        return self.cache.setdefault(index, super().__getitem__(index))


class ShufflesByTime(Sampler[int]):
    def __init__(self, size: int = 16) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(random.Random(time.time_ns()).sample(range(self.size), self.size))


class ShufflesByCount(ShufflesByTime):
    """Shuffles by a count that a hook changes."""

    passes = 0

    def __iter__(self) -> Iterator[int]:
        return iter(random.Random(self.passes).sample(range(self.size), self.size))


class Curriculum(Hook):
    """Counts the epochs of this process for the sampler."""

    def after_train_epoch(self, runner: Any) -> None:
        runner.train_loop.dataloader.sampler.passes += 1


class Memory(ToyModel):
    """Mixes earlier batches into the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: list[Tensor] = []

    def score(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.memory.append(inputs.mean(0))
        return super().score(inputs + sum(self.memory[-8:], torch.zeros(4)))


class LostBuffer(ToyModel):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4), persistent=False)

    def score(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.mean(0)
        return super().score(inputs - self.mean)


class OwnDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(0)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.rng.choice((0.0, 2.0)) if self.training else inputs


class DropsByItself(ToyModel):
    def __init__(self) -> None:
        super().__init__()
        self.layers[2] = OwnDropout()


class CountingHook(Hook):
    """Halves the learning rate after each fifth iteration that it has seen."""

    def __init__(self) -> None:
        self.count = 0

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.count += 1
        if self.count % 5 == 0:
            for group in runner.optim_wrapper.optimizer.param_groups:
                group["weight_decay"] = self.count / 10


class Patience(Hook):
    """Scales the weights by the number of validations."""

    seen = 0

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self.seen += 1
        with torch.no_grad():
            next(iter(runner.model.parameters())).mul_(1 + self.seen / 100)


class DrawsInTraining(Hook):
    """Draws noise for the weights from a generator of its module."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        with torch.no_grad():
            next(iter(runner.model.parameters())).add_(_GENERATOR.gauss(0, 0.01))


_GENERATOR = random.Random(0)


class RunningMetric(BaseMetric[float]):
    """Averages over all validations of the process."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[float] = []

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [float(found == label) for found, label in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        self.all += [*results, float(len(self.all))]
        return {"accuracy": sum(self.all) / len(self.all)}


class NoisyWrapper(OptimWrapper):
    """Scales each loss by a factor that grows with the steps of the process."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.factor = 1.0

    def update_params(self, *args: Any, **kwargs: Any) -> None:
        self.factor *= 1.1
        super().update_params(args[0] * self.factor, *args[1:], **kwargs)


class SlowCache(Points):
    """Caches what does not change. A resumed run fills it again."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}

    def __getitem__(self, index: int) -> Any:
        self.sizes[index] = index
        return super().__getitem__(index)


def _dataset(dataset: Any, **changes: Any) -> dict[str, Any]:
    return {"train_dataloader": loader(dataset=dataset, **changes)}


def _sampler(kind: type) -> dict[str, Any]:
    return {"train_dataloader": loader(sampler=kind())}


FAULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "transform with a generator": lambda: _dataset(OwnPoints(Crop())),
    "the same in a worker": lambda: _dataset(OwnPoints(Crop()), num_workers=1, persistent_workers=True),
    "transform with a memory": lambda: _dataset(OwnPoints(Jitter())),
    "dataset with a generator": lambda: _dataset(OwnGenerator()),
    "cache that fills itself": lambda: _dataset(FillingCache()),
    "sampler that shuffles by time": lambda: _sampler(ShufflesByTime),
    "sampler that shuffles by a count": lambda: {**_sampler(ShufflesByCount), "custom_hooks": [Curriculum()]},
    "memory in an attribute": lambda: {"model": Memory()},
    "buffer that is not saved": lambda: {"model": LostBuffer()},
    "module with a generator": lambda: {"model": DropsByItself()},
    "hook with a counter": lambda: {"custom_hooks": [CountingHook()]},
    "hook that counts validations": lambda: {"custom_hooks": [Patience()]},
    "generator of a Python module": lambda: {"custom_hooks": [DrawsInTraining()]},
    "metric with a memory": lambda: {"val_evaluator": RunningMetric()},
    "optimizer wrapper with a factor": lambda: {
        "optim_wrapper": {"type": NoisyWrapper, "optimizer": {"type": "SGD", "lr": 0.1}}
    },
    "nothing": dict,
    "cache without effect": lambda: _dataset(SlowCache()),
}


def build(work_dir: str, fault: str = "nothing", **changes: Any) -> Runner:
    """Builds a run of 12 iterations in epochs of 4 with a fault, and changes of its training loader."""
    torch.set_num_threads(1)
    base = {
        "model": ToyModel(dropout=0.3),
        "resume": "auto",
        "train_dataloader": loader(**{"batch_size": 4, **changes}),
    }
    return Runner(**settings(work_dir, **{**base, **FAULTS[fault]()}))


def build_whole(work_dir: str, seed: int = 7) -> Runner:
    """Builds a run that does not resume unless it is told to."""
    return Runner(**settings(work_dir, resume="auto" if seed != 7 else False, randomness={"seed": seed}))
