"""A run small enough for a test: 16 points in batches of 4, two classes, 8 points to validate on.

Also contains what tests of several packages share.
"""

import json
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from footplate import Runner
from footplate.engine import EVENTS, Hook
from footplate.evaluation import BaseMetric
from footplate.models import BaseModel
from footplate.registry import DATASETS, HOOKS, METRICS, MODELS
from footplate.weighted import Weighted


def free_port() -> int:
    """Returns a port of this machine that no program uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def summation_tolerance(terms: int) -> float:
    """Returns the relative difference that two orders of adding `terms` float32 numbers may cause.

    Rounding errors are independent, so they grow with the square root of the number of terms. The factor covers the
    cancellation in sums of both signs. Instruction sets and numbers of threads and ranks differ in this order.
    """
    return float(8 * torch.finfo(torch.float32).eps * terms**0.5)


def json_lines(path: Path | str) -> list[Any]:
    """Returns the values of a file with one JSON value per line."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


class PointModel(BaseModel):
    """Classifies points with `layers`, or with a `score` method of the model."""

    layers: Any
    is_weighted = False

    def score(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.layers(inputs)
        return scores

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        scores = self.score(inputs)
        if mode == "loss":
            accuracy = (scores.argmax(1) == labels).float().mean()
            loss = nn.functional.cross_entropy(scores, labels)
            return {"loss": Weighted(loss, 1 + labels.sum()) if self.is_weighted else loss, "acc": accuracy}
        return list(zip(scores.argmax(1), labels, strict=True)) if mode == "predict" else scores


@MODELS.register_module()
class ToyModel(PointModel):
    """Two layers with dropout between, so that a run depends on every random generator."""

    def __init__(
        self, dropout: float = 0.0, data_preprocessor: Any = None, num_classes: int = 2, is_weighted: bool = False
    ) -> None:
        super().__init__(data_preprocessor)
        self.is_weighted = is_weighted
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, num_classes))


@DATASETS.register_module()
class Points(Dataset[Any]):
    """Points whose class is the sign of their first coordinate, with noise from the generator of the sample."""

    def __init__(self, size: int = 16, noise: float = 0.1, form: str = "dict") -> None:
        self.size, self.noise, self.form = size, noise, form
        self.metainfo: dict[str, tuple[str, ...]] = {"classes": ("left", "right")}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        point = torch.randn(4, generator=torch.Generator().manual_seed(index))
        label = int(point[0] > 0)
        inputs = point + self.noise * torch.randn(4)
        return {"inputs": inputs, "labels": label} if self.form == "dict" else (inputs, label)


@METRICS.register_module()
class PointAccuracy(BaseMetric[float]):
    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.results += [float(found == label) for found, label in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"accuracy": 100 * sum(results) / len(results)}


@METRICS.register_module()
class Told(BaseMetric[int]):
    """Gives the metrics it was told, one after the other."""

    def __init__(self, values: dict[str, list[float]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.values, self.times = values, 0

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.results += [0] * len(data_samples)

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        self.times += 1
        return {name: values[self.times - 1] for name, values in self.values.items()}


@HOOKS.register_module()
class Witness(Hook):
    """Keeps every event with iteration and epoch at that time, except for the ends of saves in the background."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def row(self, event: str, runner: Any) -> tuple[Any, ...]:
        """Returns what is kept of an event."""
        return (event, runner.iter, runner.epoch)

    def when(self, event: str) -> list[tuple[int, int]]:
        """Returns iteration and epoch of each time that `event` came."""
        return [(iteration, epoch) for name, iteration, epoch in self.seen if name == event]


def _witness(event: str) -> Any:
    def method(self: Witness, runner: Any, **arguments: Any) -> None:
        self.seen.append(self.row(event, runner))

    return method


for _event in set(EVENTS) - {"after_save_checkpoint"}:
    setattr(Witness, _event, _witness(_event))


class Counter(Hook):
    """Counts its events by name, which is its state."""

    def __init__(self, *events: str) -> None:
        self.counts = dict.fromkeys(events, 0)
        for event in events:
            setattr(self, event, lambda runner, event=event, **arguments: self.count(runner, event))

    def count(self, runner: Any, event: str) -> None:
        self.counts[event] += 1

    def state_dict(self) -> dict[str, Any]:
        return dict(self.counts)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts = dict(state)


@HOOKS.register_module()
class KillForTest(Hook):
    """Ends the process without a word: after an iteration and its saves, or after the epoch that it ends."""

    def __init__(self, iteration: int, by_epoch: bool = False) -> None:
        self.iteration, self.by_epoch = iteration, by_epoch

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter == self.iteration:
            self._die(runner)

    def after_train_epoch(self, runner: Any) -> None:
        if not self.by_epoch:
            self.before_train_iter(runner)

    before_val = before_train_epoch = after_train = before_train_iter

    def _die(self, runner: Any) -> None:
        runner.saver.wait()  # for the save in the background
        os.kill(os.getpid(), signal.SIGKILL)


def loader(size: int = 16, *, shuffle: bool = True, **changes: Any) -> dict[str, Any]:
    """Returns the section of a loader."""
    return {
        "dataset": {"type": "Points", "size": size},
        "sampler": {"type": "DefaultSampler", "shuffle": shuffle},
        "collate_fn": {"type": "default_collate"},
        "batch_size": 4,
        "num_workers": 0,
        **changes,
    }


def settings(work_dir: Path | str, *, by_epoch: bool = True, **changes: Any) -> dict[str, Any]:
    """Returns the config of a run of 3 epochs or 12 iterations, which validates at the end of each four iterations."""
    length = {"max_epochs": 3, "val_interval": 1} if by_epoch else {"max_iters": 12, "val_interval": 4}
    return {
        "model": {"type": "ToyModel"},
        "work_dir": str(work_dir),
        "train_dataloader": loader(),
        "val_dataloader": loader(8, shuffle=False),
        "test_dataloader": loader(8, shuffle=False),
        "train_cfg": {"by_epoch": by_epoch, **length},
        "val_cfg": {},
        "test_cfg": {},
        "val_evaluator": {"type": "PointAccuracy"},
        "test_evaluator": {"type": "PointAccuracy"},
        "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
        "param_scheduler": {"type": "LinearLR", "start_factor": 0.5, "end": 6, "by_epoch": False},
        "default_hooks": {"checkpoint": {"by_epoch": by_epoch, "interval": 1 if by_epoch else 4}},
        "randomness": {"seed": 7},
        "log_level": "WARNING",
        **changes,
    }


# The same as a config file, of eight iterations.
TINY = """\
custom_imports = dict(imports=["tests.support"])
model = dict(type="ToyModel", dropout=0.1)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(type="Points", size=16),
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
)
val_dataloader = dict(
    batch_size=4,
    dataset=dict(type="Points", size=8),
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
)
test_dataloader = val_dataloader
train_cfg = dict(by_epoch=False, max_iters=8, val_interval=4)
val_cfg = dict()
test_cfg = dict()
val_evaluator = dict(type="PointAccuracy")
test_evaluator = val_evaluator
optim_wrapper = dict(
    optimizer=dict(
        type="SGD",
        lr=0.1,
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.5, end=4, by_epoch=False),
]
default_hooks = dict(
    logger=dict(interval=2),
    checkpoint=dict(by_epoch=False, interval=4),
)
custom_hooks = [dict(type="Witness")]
randomness = dict(seed=3)
"""


def weights(runner: Runner) -> list[float]:
    values: list[float] = torch.cat([each.detach().flatten() for each in runner.model.parameters()]).tolist()
    return values


def assert_same_gradients(model: nn.Module, expected: nn.Module) -> None:
    for mine, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad, other.grad)


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
