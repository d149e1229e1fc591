"""Measures how long iterations take, and how long they wait for data."""

import time
from typing import TYPE_CHECKING, Any

from footplate.engine import Hook
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class IterTimerHook(Hook):
    """Records `<mode>/time` and `<mode>/data_time` of each iteration, in seconds."""

    priority = "NORMAL"

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def before_train(self, runner: "Runner") -> None:
        """Finds the histories once."""
        hub = runner.message_hub
        self._train_time, self._train_data_time = hub.history("train/time"), hub.history("train/data_time")

    def _before_epoch(self, runner: "Runner", mode: str = "train") -> None:
        self._since = time.perf_counter()

    def before_train_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None) -> None:
        """Records how long the batch was waited for."""
        self._train_data_time.append(time.perf_counter() - self._since)

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Records how long the iteration took, waiting included."""
        now = time.perf_counter()
        self._train_time.append(now - self._since)
        self._since = now

    def _before_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None, mode: str = "train") -> None:
        runner.message_hub.history(f"{mode}/data_time").append(time.perf_counter() - self._since)

    def _after_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
    ) -> None:
        now = time.perf_counter()
        runner.message_hub.history(f"{mode}/time").append(now - self._since)
        self._since = now

    def after_val(self, runner: "Runner") -> None:
        """Keeps a validation out of the next training iteration's time."""
        self._since = time.perf_counter()
