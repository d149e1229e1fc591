"""Shows the progress of training on a terminal or in a notebook."""

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch

from footplate.data import length_of
from footplate.distributed import is_main_process
from footplate.engine import Hook, Runner
from footplate.hooks.checkpoint_hook import CheckpointHook
from footplate.hooks.metric_rules import find_rule, is_better, order_metrics
from footplate.records import memory_in_use
from footplate.records.message_hub import validation_label
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from rich.console import RenderableType

    from footplate.hooks.live_display import LiveNotebook, LiveTerminal

_SECONDS_BETWEEN = 0.25
_WINDOW = 50  # iterations over which times are averaged
_SECTIONS = 24  # of the run; the curve of a loss has one value for each


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows progress, time left, losses, learning rate, time spent waiting for data, memory and best metrics.

    The training loop itself redraws the display a few times per second, without an extra thread. On an accelerator,
    losses are read only every `interval` iterations. The display is at the bottom of a terminal, or in a single output
    of a notebook cell. Elsewhere (in a pipe, in a file, with `TERM=dumb`) nothing is shown, because the log is enough.

    Args:
        interval: The number of iterations between two readings of the losses on an accelerator.
    """

    priority = "LOWEST"

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._display: LiveTerminal | LiveNotebook | None = None
        self._drawn_at = 0.0
        self._began: tuple[float, int] | None = None  # the time after the first iteration, and the iteration
        self._losses: dict[str, dict[int, float]] = {}  # the latest value of each section of the run
        self._metrics: dict[str, tuple[float, float, int]] = {}  # latest and best value, iteration of the best one
        self._validation: tuple[int, int | None] | None = None

    def before_train(self, runner: Runner) -> None:
        """Opens the display."""
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        can_show = os.environ.get("TERM") != "dumb" and (is_terminal or "IPython" in sys.modules)
        if not can_show or not is_main_process():
            return
        # Imported only if needed, because importing rich takes time.
        from footplate.hooks.live_display import LiveNotebook, LiveTerminal, is_notebook

        if is_terminal:
            self._display = LiveTerminal()
        elif is_notebook():
            self._display = LiveNotebook()
        self._draw(runner, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Redraws the display if enough time has passed since it was last drawn."""
        if self._display is None:
            return
        done = runner.iter + 1
        now = time.monotonic()
        self._began = self._began or (now, done)
        due = now - self._drawn_at >= _SECONDS_BETWEEN or done == runner.max_iters
        if done % self.interval == 0 or not self._losses or (due and runner.device.type == "cpu"):
            self._read_losses(runner, outputs or {})
        if due:
            self._draw(runner, done)

    def before_val(self, runner: Runner) -> None:
        """Adds a line for validation."""
        loop: Any = runner.val_loop
        if self._display is None or loop is None:
            return
        lengths = [length_of(runner.val_dataloader)]  # if it is a user's loop
        if hasattr(loop, "sets"):
            lengths = [length_of(each.dataloader) for each in loop.sets if each.name not in loop.left_out]
        self._validation = (0, None if None in lengths else sum(length or 0 for length in lengths))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Updates the validation line."""
        if self._validation is not None:
            self._validation = (self._validation[0] + 1, self._validation[1])
            if time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN:
                self._draw(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Removes the validation line. Stores the metrics and updates the best value of each metric."""
        if self._validation is None:
            return
        self._validation = None
        rules = _best_rules(runner)
        for name, value in (metrics or {}).items():
            if not isinstance(value, Real) or isinstance(value, bool):
                continue
            rule = rules.get(name) or find_rule(name)
            if rule is None:
                continue  # unknown whether greater is better, for example for a time
            _, best, at = self._metrics.get(name, (0.0, math.nan, 0))
            if math.isnan(best) or is_better(float(value), best, rule):
                best, at = float(value), runner.iter
            self._metrics[name] = (float(value), best, at)
        self._draw(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Leaves the last lines on the screen."""
        self.stop(runner)

    def stop(self, runner: Runner) -> None:
        """Draws the final progress and releases the terminal. Also called when training ends with an error."""
        if self._display is not None:
            with suppress(Exception):  # a device may have failed; the error that ended training is reported anyway
                self._draw(runner, runner.iter)
            self._display.close()
            self._display = None

    def _draw(self, runner: Runner, done: int) -> None:
        if self._display is None:
            return
        from rich.text import Text

        from footplate.hooks.live_display import bar_line, loss_text, metric_text, text_line

        self._drawn_at = time.monotonic()
        scalars, left = runner.message_hub.log_scalars, "--:--"
        if self._began is not None and done > self._began[1]:
            # The average since the first iteration includes validations, saves and all other pauses.
            seconds = (self._drawn_at - self._began[0]) / (done - self._began[1]) * (runner.max_iters - done)
            left = str(timedelta(seconds=round(seconds)))
        train = [f"left {left}"]
        if scalars.get("train/time") and scalars.get("train/data_time"):
            pace = max(scalars["train/time"].mean(_WINDOW), 1e-9)
            train.append(f"{pace:.3g} s/it" if pace >= 1 else f"{1 / pace:.3g} it/s")
            train.append(f"{scalars['train/data_time'].mean(_WINDOW) / pace:.0%} waiting for data")
        train.append(f"{memory_in_use(runner.device)} MiB")
        now = [loss_text(name, curve.values()) for name, curve in self._losses.items()]
        if scalars.get("train/lr"):
            now.insert(1, Text(f"lr {scalars['train/lr'].current():.2e}"))
        best = [
            metric_text(validation_label(name, scalars), *self._metrics[name])
            for name in order_metrics(self._metrics, list(_best_rules(runner)))
        ]
        lines: list[RenderableType] = [bar_line("train", done, runner.max_iters, *train)]
        lines += [text_line([Text(label), *parts]) for label, parts in (("now ", now), ("best", best)) if parts]
        lines += [bar_line("valid", *self._validation)] if self._validation else []
        self._display.show(lines)

    def _read_losses(self, runner: Runner, outputs: Mapping[str, Any]) -> None:
        """Reads all losses with a single copy from the device."""
        tensors = {
            name: value
            for name, value in outputs.items()
            if "loss" in name and isinstance(value, torch.Tensor) and value.numel() == 1
        }
        if tensors:
            stacked = torch.stack([value.detach().reshape(()).float() for value in tensors.values()])
            values = dict(zip(tensors, stacked.tolist(), strict=True))
            if len(values) == 2 and "loss" in values and len(set(map(str, values.values()))) == 1:
                values = {"loss": values["loss"]}  # the other one is its only term
            for name in sorted(values, key=lambda name: name != "loss"):
                self._losses.setdefault(name, {})[_SECTIONS * runner.iter // runner.max_iters] = values[name]


def _best_rules(runner: Runner) -> dict[str, str | None]:
    """Maps the metrics of `save_best` to their rules, whether set by the user or derived from the names."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return {name: rule for hook in hooks for name, rule in zip(hook.save_best, hook.rules, strict=True)}
