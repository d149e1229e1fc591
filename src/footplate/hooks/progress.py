"""The live line on a terminal."""

import sys
import time
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from footplate.distributed import is_main_process
from footplate.engine import Hook
from footplate.records import length_of, memory_in_use
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from footplate.engine import Runner

_SECONDS_BETWEEN = 0.2


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows progress, loss, learning rate, time left, memory and the latest metric, where output is a terminal.

    The line is drawn a few times a second by the training loop itself; no thread of its own competes with it. Losses
    are read on the accelerator only every `interval` iterations.

    Args:
        interval: Iterations between two readings of the loss on an accelerator.
    """

    priority = "LOWEST"

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._progress: Progress | None = None
        self._drawn_at = 0.0
        self._loss = ""
        self._metric = ""

    def before_train(self, runner: "Runner") -> None:
        """Begins to show."""
        if not (is_main_process() and sys.stdout.isatty()):
            return
        self._progress = _make_progress()
        self._progress.start()
        self._task = self._progress.add_task("train", total=runner.max_iters, completed=runner.iter, words="")
        self._side: TaskID | None = None

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Draws the line again, if the last time is long enough ago."""
        if self._progress is None:
            return
        done = runner.iter + 1
        if done % self.interval == 0 or not self._loss:
            self._read_loss(outputs)
        if time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN or done == runner.max_iters:
            if runner.device.type == "cpu":
                self._read_loss(outputs)
            self._progress.update(self._task, completed=done, words=self._words(runner))
            self._draw()

    def before_val(self, runner: "Runner") -> None:
        """Shows a second line for the validation."""
        if self._progress is not None and runner.val_loop is not None:
            self._side = self._progress.add_task("validate", total=length_of(runner.val_dataloader), words="")

    def after_val_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draws the validation's line."""
        if self._progress is not None and self._side is not None:
            self._progress.update(self._side, completed=batch_idx + 1)
            if time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN:
                self._draw()

    def after_val_epoch(self, runner: "Runner", metrics: dict[str, float] | None = None) -> None:
        """Takes the validation's line away and keeps its first metric that is a number."""
        if self._progress is None:
            return
        if self._side is not None:
            self._progress.remove_task(self._side)
            self._side = None
        numbers = [f"{name} {value:.4g}" for name, value in (metrics or {}).items() if isinstance(value, Real)]
        self._metric = next(iter(numbers), "")
        self._progress.update(self._task, words=self._words(runner))
        self._draw()

    def after_train(self, runner: "Runner") -> None:
        """Leaves the last line standing."""
        self.stop()

    def stop(self) -> None:
        """Gives the terminal back; also called when training ends by an error."""
        if self._progress is not None:
            self._draw()
            self._progress.stop()
            self._progress = None

    def _draw(self) -> None:
        if self._progress is not None:
            self._progress.refresh()
            self._drawn_at = time.monotonic()

    def _read_loss(self, outputs: dict[str, Any] | None) -> None:
        if outputs and "loss" in outputs:
            self._loss = f"loss {float(outputs['loss']):.4g}"

    def _words(self, runner: "Runner") -> str:
        rate = runner.message_hub.history("train/lr").current()
        memory = memory_in_use(runner.device)
        return "  ".join(each for each in (self._loss, f"lr {rate:.2e}", f"{memory} MiB", self._metric) if each)


def _make_progress() -> "Progress":
    # Here, since rich costs time and most runs have no terminal.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[words]}"),
        auto_refresh=False,
        speed_estimate_period=60.0,
    )
