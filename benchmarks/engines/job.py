"""What a case asks every engine to train, and the parts that all engines share."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
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
    """A training, in numbers.

    Attributes:
        model: A name of `models.MODELS`.
        iterations: Forward passes.
        optimizer: Arguments of torch's AdamW.
        norm_decay: Whether normalization layers are decayed.
        schedule: "linear" or "poly", both down to zero at `horizon`.
        horizon: Iterations of the schedule.
        clip: The largest norm of gradients.
        accumulate: Forward passes a step.
        workers: None: batches lie in memory. A number: a DataLoader with so many workers.
        save_every: Iterations between two checkpoints; 0: none are saved.
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
        """Returns the same with fewer iterations, and one whole block of them to be timed."""
        count = max(2 * LOG_EVERY + 4, min(self.iterations, iterations))
        return dataclasses.replace(self, iterations=count)


class Task:
    """A job made ready: model, batches, and the folder that an engine may write to.

    Args:
        job: What is trained.
        folder: Where the engine may write.
        stamps: Taken in each forward pass.
        network: In place of the one that the job names.
        batches: In place of those that go with it, inputs and labels.
        device: Where the model is trained.
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        stamps: Stamps,
        *,
        network: nn.Module | None = None,
        batches: Sequence[tuple[Tensor, Tensor]] = (),
        device: str = "cpu",
    ) -> None:
        self.job, self.folder, self.stamps = job, folder, stamps
        self.device = torch.device(device)
        torch.manual_seed(0)
        self.model = Measured(network or NETWORKS[job.model](), stamps)
        self._batches = list(batches)

    def batches(self, *, named: bool = False) -> "Endless":
        """Returns batches in memory, without an end; `named` ones are dicts."""
        generator = torch.Generator().manual_seed(0)
        made = self._batches or [inputs_of(self.job.model, generator) for _ in range(_BATCHES)]
        return Endless([{"inputs": one, "labels": other} for one, other in made] if named else made)

    def sized_batches(self) -> "Endless":
        """Returns the same for engines that ask how many there are: as many as the job has iterations."""
        return _SizedEndless(self.batches(), self.job.iterations)

    def dataset(self, *, named: bool = False, length: int | None = None) -> "Pictures":
        """Returns the data set of a job with workers: as many samples as the job needs."""
        return Pictures(length or self.job.iterations * self.job.batch_size, named=named)

    def loader(self, *, named: bool = False) -> Any:
        """Returns what a plain PyTorch user iterates over."""
        if self.job.workers is None:
            return self.batches(named=named)
        return DataLoader(self.dataset(named=named), self.job.batch_size, shuffle=True, num_workers=self.job.workers)

    def points(self) -> TensorDataset:
        """Returns a data set that costs next to nothing, for runs that are resumed far in."""
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(0, 2, (_POINTS,), generator=generator)
        return TensorDataset(torch.randn(_POINTS, 32, generator=generator), labels)

    def validation(self, *, named: bool = False) -> "Batches":
        """Returns as many batches in memory as the job has iterations."""
        return Batches(list(itertools.islice(self.batches(named=named), self.job.iterations)), self.job.batch_size)

    def groups(self, model: nn.Module | None = None) -> list[dict[str, Any]]:
        """Returns the groups of parameters that a user merges by hand."""
        model = model or self.model
        if self.job.norm_decay:
            return [{"params": list(model.parameters())}]
        norms = [each for part in model.modules() if isinstance(part, nn.BatchNorm2d) for each in part.parameters()]
        known = set(map(id, norms))
        others = [each for each in model.parameters() if id(each) not in known]
        return [{"params": others}, {"params": norms, "weight_decay": 0.0}]

    def optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Returns the optimizer that a user makes by hand."""
        return torch.optim.AdamW(self.groups(model), **self.job.optimizer)

    def scheduler(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Returns torch's own schedule."""
        if self.job.schedule == "linear":
            return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=self.job.horizon)
        return torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=self.job.horizon, power=0.9)


class Endless:
    """Batches over and over; it has no length, and a data set only for those who ask for its facts."""

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
    """Batches with an end, as much like a DataLoader as engines ask for."""

    def __init__(self, batches: list[Any], batch_size: int) -> None:
        self._batches = batches
        self.batch_size = batch_size
        self.dataset = range(len(batches) * batch_size)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


class Pictures(Dataset[Any]):
    """Small pictures, mirrored at random, as a map-style data set gives them: bytes to floats, one at a time."""

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
