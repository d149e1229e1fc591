"""Checkpoints of a tiny run with one replaced node, which a reader must reject or handle."""

import copy
import io
import math
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Sampler

from footplate import Runner
from footplate.checkpoint.digest import DigestSink
from footplate.engine import Hook
from tests.support import loader, settings

ITERATIONS = 12
SAVED_AT = 5  # within an epoch of 4 iterations, and within a round of accumulation of 3
Path_ = tuple[Any, ...]


class PassesSampler(Sampler[int]):
    """Shuffles by the number of started passes, which is its state."""

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        self.size, self.passes = len(dataset), 0

    def __iter__(self) -> Iterator[int]:
        order = random.Random(str(self.passes)).sample(range(self.size), self.size)
        self.passes += 1
        return iter(order)

    def __len__(self) -> int:
        return self.size

    def state_dict(self) -> dict[str, Any]:
        return {"passes": self.passes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if type(state["passes"]) is not int:
            raise TypeError("'passes' must be an integer")
        self.passes = state["passes"]


class LossSumHook(Hook):
    """Has a state."""

    def __init__(self) -> None:
        self.total = 0.0

    def after_train_iter(self, runner: Any, outputs: Any) -> None:  # type: ignore[override]
        self.total += float(outputs["loss"])

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total = float(state["total"])


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    """Returns the config of a run that has every kind of state."""
    return settings(
        folder,
        model={"type": "ToyModel", "dropout": 0.3},
        train_dataloader=loader(16, sampler={"type": PassesSampler}),
        optim_wrapper={
            "type": "AmpOptimWrapper",
            "dtype": "float16",
            "loss_scale": {"init_scale": 1024.0, "growth_interval": 3},
            "accumulative_counts": 3,
            "optimizer": {"type": "AdamW", "lr": 0.02},
        },
        param_scheduler=[
            {"type": "LinearLR", "start_factor": 0.1, "end": 9, "by_epoch": False},
            {"type": "ReduceOnPlateauLR", "monitor": "accuracy", "rule": "greater", "patience": 1},
        ],
        custom_hooks=[
            {"type": "EMAHook", "momentum": 0.1},
            {"type": "EarlyStoppingHook", "monitor": "accuracy", "rule": "greater", "patience": 50},
            {"type": LossSumHook},
        ],
        default_hooks={
            "logger": {"interval": 4},
            "checkpoint": {"by_epoch": False, "interval": SAVED_AT, "save_last": False, "save_best": "accuracy"},
        },
        log_level="CRITICAL",
        **changes,
    )


def example(folder: Path) -> dict[str, Any]:
    """Trains, and returns the checkpoint of iteration `SAVED_AT`."""
    Runner.from_cfg(config(folder)).train()
    held: dict[str, Any] = torch.load(folder / f"iter_{SAVED_AT}.pth", weights_only=True)
    held["meta"].pop("cfg")
    return held


class Damage(NamedTuple):
    """The replacement of one node.

    Attributes:
        path: The keys of the node.
        kind: The kind of the replacement.
    """

    path: Path_
    kind: str

    @property
    def name(self) -> str:
        return f"{'.'.join(map(str, self.path))} = {self.kind}"


def _contains_itself() -> Any:
    held: list[Any] = []
    held.append(held)
    return held


def _other_shape(node: Any) -> Any:
    return torch.zeros(*node.shape, 3) if isinstance(node, torch.Tensor) else torch.zeros(2, 3)


VALUES: Mapping[str, Callable[[Any], Any]] = {
    "None": lambda node: None,
    "3": lambda node: 3,
    "10**30": lambda node: 10**30,
    "NaN": lambda node: math.nan,
    "a string": lambda node: "x" * 50,
    "a list": lambda node: [None, "x", 3],
    "a dict with other keys": lambda node: {"x": node, 3: None},
    "a tensor of another shape": _other_shape,
    "itself": lambda node: _contains_itself(),
    "nothing": lambda node: node,  # the key is removed
}


def damages(content: Any) -> list[Damage]:
    """Returns each kind of damage for every node of a checkpoint."""
    return [Damage(path, kind) for path in _paths(content) for kind in VALUES]


def _paths(node: Any, path: Path_ = ()) -> Iterator[Path_]:
    inner = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    if path:
        yield path
    for key, value in inner:
        yield from _paths(value, (*path, key))


def damaged(content: dict[str, Any], damage: Damage) -> dict[str, Any]:
    """Returns a copy of a checkpoint with one node replaced."""
    result = copy.deepcopy(content)
    holder: Any = result
    trail = []
    for step in damage.path[:-1]:
        trail.append((holder, step))
        holder = holder[step]
    last = damage.path[-1]
    if isinstance(holder, tuple):
        holder = list(holder)
        above, step = trail[-1]
        above[step] = holder
    if damage.kind == "nothing":
        del holder[last]
    else:
        holder[last] = VALUES[damage.kind](holder[last])
    return result


def write(content: Any, path: Path, *, sealed: bool = True) -> None:
    """Writes a checkpoint with torch, with or without a valid seal."""
    sink = io.BytesIO()
    if sealed:
        sealing = DigestSink(sink)
        torch.save(content, sealing)  # type: ignore[arg-type]
        sealing.finish()
    else:
        torch.save(content, sink)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sink.getvalue())
