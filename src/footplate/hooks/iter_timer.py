"""Measures the duration of iterations, and how long they wait for data."""

import time
from typing import TYPE_CHECKING, Any

from footplate.engine import Hook
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner
    from footplate.records import HistoryBuffer


@HOOKS.register_module()
class IterTimerHook(Hook):
    """Records `<mode>/time` and `<mode>/data_time` of each iteration, in seconds."""

    priority = "NORMAL"

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._histories: dict[str, tuple[HistoryBuffer, HistoryBuffer]] = {}  # by mode: times, data times

    def before_train(self, runner: "Runner") -> None:
        """Looks up the histories once."""
        self._train_time, self._train_data_time = self._histories_of(runner, "train")

    def _before_epoch(self, runner: "Runner", mode: str = "train") -> None:
        self._histories_of(runner, mode)
        self._since = time.perf_counter()

    def before_train_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None) -> None:
        """Records how long the iteration waited for its batch."""
        self._train_data_time.append(time.perf_counter() - self._since)

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Records the duration of the iteration, including the wait."""
        now = time.perf_counter()
        self._train_time.append(now - self._since)
        self._since = now

    def _before_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None, mode: str = "train") -> None:
        (self._histories.get(mode) or self._histories_of(runner, mode))[1].append(time.perf_counter() - self._since)

    def _after_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
    ) -> None:
        now = time.perf_counter()
        (self._histories.get(mode) or self._histories_of(runner, mode))[0].append(now - self._since)
        self._since = now

    def after_val(self, runner: "Runner") -> None:
        """Excludes a validation from the time of the next training iteration."""
        self._since = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        """Excludes a time span that has just passed from the current iteration: the process was suspended."""
        self._since += seconds

    def _histories_of(self, runner: "Runner", mode: str) -> "tuple[HistoryBuffer, HistoryBuffer]":
        hub = runner.message_hub
        found = self._histories[mode] = hub.history(f"{mode}/time"), hub.history(f"{mode}/data_time")
        return found
