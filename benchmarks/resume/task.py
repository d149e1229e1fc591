"""The task that every engine trains: data, network, settings, and the instants at which a run can be attacked.

An engine's file imports nothing else of this package. The network writes the samples of each training batch to the file
`RESUME_RECORD`, so that no engine has to report which samples it used.
"""

import argparse
import ctypes
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

CLASSES = 4
EPOCHS = 4
BATCH_SIZE = 16
ACCUMULATE = 2  # batches per optimizer step
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
CLIP_NORM = 1.0
AVERAGE_DECAY = 0.9  # of an exponential moving average, updated after each optimizer step
TRAINING_SAMPLES = 103  # the last of the 7 batches of an epoch has 7 samples
VALIDATION_SAMPLES = 40
SAVE_EVERY = 4  # batches, or 2 optimizer steps; also at the end of each epoch
OPTIMIZER_STEPS = EPOCHS * 4  # with a step after the last, incomplete, accumulation of each epoch


class Images(Dataset[tuple[Tensor, int]]):
    """Noisy stripes of four directions. Training images are flipped and get noise that changes in each epoch."""

    def __init__(self, *, training: bool) -> None:
        generator = torch.Generator().manual_seed(1 + training)
        count = TRAINING_SAMPLES if training else VALIDATION_SAMPLES
        self._training = training
        self.labels = torch.arange(count) % CLASSES
        y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        stripes = torch.stack((torch.sin(x), torch.sin(y), torch.sin(x + y), torch.sin(x - y)))
        self._images = stripes[self.labels, None] + 1.5 * torch.randn(count, 3, 16, 16, generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self._images[index].clone()
        if self._training:
            # Each of the three generators that augmentations use.
            if random.random() < 0.5:
                image = image.flip(-1)
            image = image * float(np.random.uniform(0.8, 1.2)) + 0.5 * torch.randn(image.shape)
        image[0, 0, 0] = index / 1000  # from which `record_batch` reads the sample
        return image, int(self.labels[index])


class Net(nn.Module):
    """A network with batch normalization and dropout. Returns logits of shape (N, 4) for images (N, 3, 16, 16)."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(2048, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, CLASSES))
        # The number of training batches with which these weights were trained. It is part of each checkpoint.
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        if self.training:
            record_batch(images, int(self.seen))
            self.seen += 1
        else:
            record_validation()
        logits: Tensor = self.head(self.features(images))
        if self.training and logits.requires_grad:
            logits.register_hook(lambda _: attack_at("backward"))  # type: ignore[no-untyped-call]
        return logits


class Arguments(argparse.Namespace):
    """The arguments of an engine's file.

    Attributes:
        folder: The folder for everything that the run writes.
        seed: The seed of the run.
        resume: Whether to continue the run in `folder`.
        workers: The number of worker processes of the training data loader.
        processes: The number of training processes. They were started by `torchrun` if there are several.
    """

    folder: Path
    seed: int
    resume: bool
    workers: int
    processes: int


def read_arguments() -> Arguments:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args(namespace=Arguments())
    arguments.processes = int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(1)
    return arguments


def finish(
    *,
    model: dict[str, Any],
    optimizer: dict[str, Any],
    schedule: Any,
    averaged: dict[str, Any] | None = None,
    best: dict[str, Any] | None = None,
    log: list[tuple[Any, float]] | None = None,
) -> None:
    """Writes the state at the end of a run to the file `RESUME_RESULT`, to be compared with the run left alone.

    Args:
        model: The state dict of the network.
        optimizer: The state dict of the optimizer.
        schedule: The state of the schedule, or the learning rate.
        averaged: The state dict of the averaged weights. None if the engine has none.
        best: The weights in the file of the best checkpoint, as a state dict. None if the engine has none.
        log: The validation scores that the run's own log contains at the end, each with its epoch or step. None if the
            engine writes no log.
    """
    path = os.environ.get("RESUME_RESULT")
    if path and int(os.environ.get("RANK", "0")) == 0:
        state = {"model": model, "optimizer": optimizer, "schedule": schedule}
        torch.save({**state, "averaged": averaged, "best": best, "log": log}, path)


_attack: dict[str, Any] = json.loads(os.environ.get("RESUME_ATTACK", "{}"))
_batch = -1  # the training batch that runs, counted from 0
_validated = 0  # validation batches since then


def record_batch(images: Tensor, batch: int) -> None:
    """Records the samples of a training batch, and attacks the run if it is due.

    Args:
        images: The images of the batch, of shape (N, 3, 16, 16).
        batch: The number of training batches with which the current weights were trained.
    """
    global _batch, _validated
    _batch, _validated = batch, 0
    samples = (images[:, 0, 0, 0] * 1000).round().int().tolist()
    _write({"batch": batch, "samples": samples, "sum": float(images.double().sum()).hex()})
    _mark(batch)
    attack_at("forward")


def record_validation() -> None:
    """Records a validation batch, and attacks the run if it is due."""
    global _validated
    _write({"batch": _batch, "validation": _validated})
    attack_at("validation")
    _validated += 1


def attack_at(place: str) -> None:
    """Sends the signal of the planned attack if this is its place."""
    if _attack.get("place") == place and _attack["batch"] == _batch and _attack.get("index", 0) == _validated:
        name = _attack.pop("signal")
        _attack.clear()
        if name == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        # Ctrl+C and many schedulers reach all processes of a run.
        os.killpg(0, signal.Signals[name])


def _write(line: dict[str, Any]) -> None:
    path = os.environ.get("RESUME_RECORD")
    if path:
        line["process"] = os.getpid()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, (json.dumps(line) + "\n").encode())
        os.close(descriptor)


def _find_mark() -> Callable[[int], Any]:
    """Returns the function of `calls.c` that takes the current batch, if that library is loaded."""
    function = getattr(ctypes.CDLL(None), "resume_mark", None)
    return function if function is not None else lambda batch: None


_mark = _find_mark()
