"""The job that every engine trains in a case, and the components that all engines share."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.engines.models import NETWORKS, Measured, inputs_of
from benchmarks.engines.stamps import Stamps

LOG_EVERY = 50
EMA_MOMENTUM = 0.0002
_BATCHES = 64
_POINTS = 100_000


@dataclasses.dataclass(frozen=True)
class Job:
    """The settings of a training.

    Attributes:
        model: A key of `models.NETWORKS`.
        iterations: The number of forward passes.
        optimizer: The arguments of torch's AdamW.
        norm_decay: Whether weight decay applies to normalization layers.
        schedule: "linear" or "poly"; both reach zero at `horizon`.
        horizon: The number of iterations of the schedule.
        clip: The maximum gradient norm.
        accumulate: The number of forward passes per optimizer step.
        workers: The number of DataLoader workers; None for batches in memory.
        save_every: The number of iterations between two checkpoints; 0 for no checkpoints.
    """

    model: str = "tiny"
    iterations: int = 2000
    optimizer: dict[str, Any] = dataclasses.field(default_factory=lambda: {"lr": 1e-3})
    norm_decay: bool = True
    schedule: str = "linear"
    horizon: int = 1_000_000
    ema: bool = False
    clip: float | None = None
    accumulate: int = 1
    amp: bool = False
    workers: int | None = None
    batch_size: int = 16
    save_every: int = 0

    def smaller(self, iterations: int) -> "Job":
        """Returns a copy with fewer iterations, but at least one full block to measure."""
        count = max(2 * LOG_EVERY + 4, min(self.iterations, iterations))
        return dataclasses.replace(self, iterations=count)


class Task:
    """The model, batches and output folder of a job.

    Args:
        job: The settings of the training.
        folder: The output folder of the engine.
        stamps: The recorder of the time of each forward pass.
    """

    def __init__(self, job: Job, folder: Path, stamps: Stamps) -> None:
        self.job, self.folder, self.stamps = job, folder, stamps
        torch.manual_seed(0)
        self.model = Measured(NETWORKS[job.model](), stamps)

    def batches(self, *, named: bool = False) -> "Endless":
        """Returns an endless iterable of batches in memory, as dicts if `named`."""
        generator = torch.Generator().manual_seed(0)
        made = [inputs_of(self.job.model, generator) for _ in range(_BATCHES)]
        return Endless([{"inputs": one, "labels": other} for one, other in made] if named else made)

    def sized_batches(self) -> "Endless":
        """Returns batches for engines that need a length: that of the job's iterations."""
        return _SizedEndless(self.batches(), self.job.iterations)

    def dataset(self, *, named: bool = False, length: int | None = None) -> "Pictures":
        """Returns the dataset of a job with workers, by default with as many samples as the job needs."""
        return Pictures(length or self.job.iterations * self.job.batch_size, named=named)

    def loader(self, *, named: bool = False) -> Any:
        """Returns batches in memory, or a DataLoader if the job has workers."""
        if self.job.workers is None:
            return self.batches(named=named)
        return DataLoader(self.dataset(named=named), self.job.batch_size, shuffle=True, num_workers=self.job.workers)

    def points(self) -> TensorDataset:
        """Returns a dataset with negligible cost, for runs that are resumed late."""
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(0, 2, (_POINTS,), generator=generator)
        return TensorDataset(torch.randn(_POINTS, 32, generator=generator), labels)

    def validation(self, *, named: bool = False) -> "Batches":
        """Returns validation batches in memory, one per iteration of the job."""
        return Batches(list(itertools.islice(self.batches(named=named), self.job.iterations)), self.job.batch_size)

    def groups(self, model: nn.Module | None = None) -> list[dict[str, Any]]:
        """Returns the parameter groups that a user would write."""
        model = model or self.model
        if self.job.norm_decay:
            return [{"params": list(model.parameters())}]
        norms = [each for part in model.modules() if isinstance(part, nn.BatchNorm2d) for each in part.parameters()]
        known = set(map(id, norms))
        others = [each for each in model.parameters() if id(each) not in known]
        return [{"params": others}, {"params": norms, "weight_decay": 0.0}]

    def optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Returns the optimizer that a user would write."""
        return torch.optim.AdamW(self.groups(model), **self.job.optimizer)

    def scheduler(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Returns torch's scheduler."""
        if self.job.schedule == "linear":
            return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=self.job.horizon)
        return torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=self.job.horizon, power=0.9)


def time_second_run(run: Callable[[], object]) -> float:
    """Returns the seconds of the second of two runs, so that what an engine does once does not count."""
    run()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


class Endless:
    """An endless iterable of batches without a length. `dataset` exists only for engines that inspect it."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches = batches
        self.dataset = range(len(batches))

    def __iter__(self) -> Iterator[Any]:
        return itertools.cycle(self._batches)


class _SizedEndless(Endless):
    def __init__(self, batches: Endless, length: int) -> None:
        super().__init__(batches._batches)
        self._length = length

    def __len__(self) -> int:
        return self._length


class Batches:
    """A finite iterable of batches with the DataLoader attributes that engines need."""

    def __init__(self, batches: list[Any], batch_size: int) -> None:
        self._batches = batches
        self.batch_size = batch_size
        self.dataset = range(len(batches) * batch_size)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


class Pictures(Dataset[Any]):
    """A map-style dataset of small images, converted to float and randomly flipped."""

    _COUNT = 512

    def __init__(self, length: int, *, named: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self._pictures = torch.randint(0, 256, (self._COUNT, 3, 32, 32), generator=generator, dtype=torch.uint8)
        self._labels = torch.randint(0, 10, (self._COUNT,), generator=generator)
        self._length, self._named = length, named

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        picture = self._pictures[index % self._COUNT].float().div_(255)
        if torch.rand(()) < 0.5:
            picture = picture.flip(-1)
        label: Tensor = self._labels[index % self._COUNT]
        return {"inputs": picture, "labels": label} if self._named else (picture, label)
