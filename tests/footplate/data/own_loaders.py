"""A loader with its own state, and a hook that records the samples of a run."""

from typing import Any

import torch

from footplate import Hook


class Seen(Hook):
    """Records the samples of each iteration."""

    def __init__(self, save_at: int = 0) -> None:
        self.samples: list[int] = []
        self.first, self.save_at = -1, save_at

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter + 1 == self.save_at:
            runner.save_checkpoint(runner.work_dir, f"iter_{self.save_at}.pth")

    def before_train_iter(self, runner: Any, data_batch: Any) -> None:  # type: ignore[override]
        self.first = runner.iter if self.first < 0 else self.first
        self.samples += data_batch["inputs"][:, 0].int().tolist()


class OwnState:
    """A loader that continues from its own state, as those of torchdata and LitData do. Each pass has another order."""

    def __init__(self) -> None:
        self.passes = self.done = 0
        self.is_loaded = False

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Any:
        if not self.is_loaded:
            self.passes, self.done = self.passes + 1, 0
        self.is_loaded = False
        order = torch.randperm(24, generator=torch.Generator().manual_seed(self.passes)).view(6, 4)
        while self.done < 6:
            self.done += 1
            indices = order[self.done - 1]
            yield {"inputs": indices[:, None].expand(4, 4).float(), "labels": indices % 2}

    def state_dict(self) -> dict[str, Any]:
        return {"passes": self.passes, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.passes, self.done, self.is_loaded = state["passes"], state["done"], True
