"""A best checkpoint that one rank fails to write does not make the ranks disagree about the next one."""

from pathlib import Path
from typing import Any

import torch.distributed as dist

from footplate import Runner
from footplate.checkpoint import saver
from footplate.distributed import get_rank
from footplate.errors import CheckpointError
from footplate.evaluation import BaseMetric
from tests.support import settings


class Told(BaseMetric[Any]):
    """Returns one of the given scores at each validation."""

    def __init__(self) -> None:
        super().__init__()
        self._scores = iter([0.5, 0.9, 0.7])

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [0] * len(data_samples)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        return {"acc": next(self._scores)}


def best_files(folder: Path) -> list[str]:
    """Trains three epochs. Writing the best checkpoint of the second one fails."""
    write = saver.commit_checkpoint

    def failing(state: Any, path: str) -> None:
        if path.endswith("best_acc_epoch_2.pth"):
            raise CheckpointError("disk full")
        write(state, path)

    if get_rank() == 0:
        vars(saver)["commit_checkpoint"] = failing
    hooks = {"checkpoint": {"interval": -1, "save_best": "acc", "rule": "greater", "save_last": False}}
    cfg = settings(folder, train_cfg={"by_epoch": True, "max_epochs": 3}, val_evaluator=Told(), default_hooks=hooks)
    Runner(**{**cfg, "launcher": "pytorch", "on_save_error": "warn"}).train()
    dist.barrier()
    return sorted(path.name for path in folder.glob("best_*"))


def test_ranks_agree_on_the_next_best_checkpoint(tmp_path: Path, on_ranks: Any) -> None:
    assert on_ranks(2, best_files, tmp_path / "work") == [["best_acc_epoch_3.pth"]] * 2
