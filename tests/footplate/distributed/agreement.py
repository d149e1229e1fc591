"""A model whose runs on several processes agree with those on one, and the cases to compare."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset

from footplate import Hook, Runner
from footplate.checkpoint.serializable import gather_full_state
from footplate.distributed import gather_objects, unwrap_model
from footplate.models import BaseModel
from footplate.registry import DATASETS, MODELS
from tests.footplate.distributed.processes import on_processes

GLOBAL_BATCH = 12
SHARDED: dict[str, Any] = {"type": "FullyShard", "shard": {"classes": ["Linear"], "names": ["stem"]}}
WRAPPERS: dict[str, dict[str, Any]] = {"DDP": {"type": "MMDistributedDataParallel"}, "FSDP2": SHARDED}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"type": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "AdamW": {"type": "AdamW", "lr": 0.003, "weight_decay": 0.05},
    "LARS": {"type": "LARS", "lr": 2.0, "momentum": 0.9, "weight_decay": 0.01, "eta": 0.02},
}


@MODELS.register_module()
class Agreeing(BaseModel):
    """A float64 model with convolution, normalization and layers whose sizes do not divide evenly."""

    def __init__(self, norm: str = "group") -> None:
        super().__init__()
        batch = norm == "batch"
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6) if batch else nn.GroupNorm(2, 6), nn.Tanh())
        self.layers = nn.Sequential(nn.Linear(6 * 9, 15), nn.Tanh(), nn.Linear(15, 7))
        self.head = nn.Linear(7, 3)
        self.double()

    def forward(self, inputs: Tensor, labels: Tensor, ids: Tensor, mode: str = "tensor") -> Any:
        scores = self.head(torch.tanh(self.layers(self.stem(inputs).flatten(1))))
        if mode == "loss":
            return {"loss": nn.functional.cross_entropy(scores, labels)}
        return scores


@DATASETS.register_module()
class Squares(Dataset[Any]):
    """Noise images in which the position of a bright pixel is the class."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> Any:
        picture = torch.randn(1, 5, 5, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
        picture[0, 0, index % 3] += 2
        return {
            "inputs": picture + 0.1 * torch.randn(1, 5, 5, dtype=torch.float64),
            "labels": index % 3,
            "ids": index,
        }


class Seen(Hook):
    """Records the samples of each iteration, in the global order of all processes."""

    def __init__(self) -> None:
        self.ids: dict[int, list[int]] = {}

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.ids[runner.iter] = data_batch["ids"].tolist()

    def of_all(self) -> dict[int, list[int]]:
        """Returns the samples of each iteration; all processes call this."""
        ranks = gather_objects(self.ids)
        return {at: [each for row in zip(*(ids[at] for ids in ranks), strict=True) for each in row] for at in self.ids}


class Case(NamedTuple):
    """One row of the table."""

    wrapper: str
    optimizer: str
    accumulation: int = 1
    sync_bn: bool = False
    clip: float = 0.5
    ema: bool = True

    def __str__(self) -> str:
        norm = "SyncBN" if self.sync_bn else "GroupNorm"
        return f"{self.wrapper:<6} {self.optimizer:<6} {self.accumulation:>5}  {norm:<10}"


def settings(case: Case, work_dir: str, world: int, iterations: int = 50, **changes: Any) -> dict[str, Any]:
    """Returns the arguments of the Runner for a case."""
    hooks = [{"type": "EMAHook", "momentum": 0.05}] if case.ema else []
    return {
        "model": {"type": "Agreeing", "norm": "batch" if case.sync_bn else "group"},
        "work_dir": work_dir,
        "train_dataloader": {
            "batch_size": GLOBAL_BATCH // world,
            "dataset": {"type": "Squares"},
            "sampler": {"type": "InfiniteSampler", "shuffle": True},
            "collate_fn": {"type": "default_collate"},
        },
        "train_cfg": {"by_epoch": False, "max_iters": iterations},
        "optim_wrapper": {
            "optimizer": OPTIMIZERS[case.optimizer],
            "accumulative_counts": case.accumulation,
            "clip_grad": {"max_norm": case.clip},
            "paramwise_cfg": {"bias_decay_mult": 0.0, "custom_keys": {"stem": {"lr_mult": 0.3}}},
        },
        "param_scheduler": [{"type": "CosineAnnealingLR", "T_max": iterations, "by_epoch": False}],
        "custom_hooks": hooks,
        "default_hooks": {"checkpoint": {"by_epoch": False, "interval": -1, "save_last": False}},
        "model_wrapper_cfg": WRAPPERS[case.wrapper],
        "sync_bn": "torch" if case.sync_bn else None,
        "randomness": {"seed": 3},
        "launcher": "pytorch",
        "visualizer": {"vis_backends": []},
        "log_level": "ERROR",
        **changes,
    }


def trained(case: Case, work_dir: str, iterations: int = 50, **changes: Any) -> dict[str, Tensor]:
    """Trains, and returns all unsharded weights, including averaged ones, on the first process."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    cfg = settings(case, work_dir, world, iterations, **changes)
    if not dist.is_initialized():
        cfg["launcher"] = "none"
    runner = Runner(**cfg)
    runner.train()
    state = dict(unwrap_model(runner.model).state_dict())
    for hook in runner.hooks:
        average = getattr(hook, "ema_model", None)
        state.update(
            {} if average is None else {f"average.{name}": each for name, each in average.state_dict().items()}
        )
    return {name: each.detach().clone() for name, each in gather_full_state(state).items() if each.is_floating_point()}


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Returns the largest difference of any tensor, relative to the largest value in it."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    return max(float((found[name] - each).abs().max() / each.abs().max()) for name, each in expected.items())


def resumed(case: Case, stop: int, iterations: int = 20) -> Iterator[tuple[int, float, bool]]:
    """Resumes a run of 2 processes, saved after `stop` iterations, on 1 to 4 processes.

    Yields the number of processes, the difference from the uninterrupted run, and whether the same samples followed.
    """
    with tempfile.TemporaryDirectory() as folder:
        saving = {"checkpoint": {"by_epoch": False, "interval": stop, "save_last": False}}
        whole, ids = on_processes(2, _trained_with, case, f"{folder}/whole", iterations, {"default_hooks": saving})[0]
        (path,) = Path(folder, "whole").glob(f"iter_{stop}.*")
        again = {"load_from": str(path), "resume": True}
        for world in (1, 2, 3, 4):
            found, after = on_processes(world, _trained_with, case, f"{folder}/{world}", iterations, again)[0]
            same = list(after) == list(range(stop, iterations)) and all(after[at] == ids[at] for at in after)
            yield world, difference(found, whole), same


def _trained_with(
    case: Case, work_dir: str, iterations: int, changes: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[int, list[int]]]:
    seen = Seen()
    hooks = [*settings(case, work_dir, 1)["custom_hooks"], seen]
    return trained(case, work_dir, iterations, custom_hooks=hooks, **changes), seen.of_all()
