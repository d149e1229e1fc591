"""Shows the progress of training on a terminal or in a notebook."""

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch

from footplate.data import length_of
from footplate.distributed import is_main_process
from footplate.engine import Hook, Runner
from footplate.errors import ArgumentError
from footplate.evaluation.evaluation_sets import validation_points
from footplate.hooks.checkpoint_hook import CheckpointHook
from footplate.hooks.eta import RecurringEvent, TimeEstimator
from footplate.hooks.metric_rules import is_better, order_metrics, rule_of
from footplate.hooks.runtime_info_hook import IterTimerHook
from footplate.records import memory_in_use
from footplate.records.message_hub import validation_label
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.hooks.live_display import LiveNotebook, LiveTerminal
    from footplate.hooks.progress_lines import Sparkline

_SECONDS_BETWEEN = 0.25
_WINDOW = 50  # iterations over which waiting for data is averaged


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
        self._losses: dict[str, Sparkline] = {}
        self._metrics: dict[str, tuple[float, float, int]] = {}  # latest and best value, iteration of the best one
        self._validation: tuple[int, int | None] | None = None
        self._ticked = 0

    def before_train(self, runner: Runner) -> None:
        """Opens the display."""

        def exclude(seconds: float) -> None:
            """Excludes suspended time from the log and the ETA."""
            self._estimator.exclude(seconds)
            for hook in runner.hooks:
                if isinstance(hook, IterTimerHook):
                    hook.exclude(seconds)

        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        can_show = os.environ.get("TERM") != "dumb" and (is_terminal or "IPython" in sys.modules)
        if not can_show or not is_main_process():
            return
        # Imported only if needed, because importing rich takes time.
        from footplate.hooks.live_display import LiveNotebook, LiveTerminal, running_shell

        shell = running_shell()
        if is_terminal:
            self._display = LiveTerminal(sys.stdout, exclude)
        elif shell is not None:
            self._display = LiveNotebook(shell, on_cell_end=lambda: self.stop(runner))
        else:
            return
        events = recurring_events(runner)
        self._estimator = TimeEstimator(runner.max_iters, _validations(runner), events, done=runner.iter)
        self._ticked = runner.iter
        self._display.open()
        self._draw(runner, runner.iter)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Starts timing at the first iteration."""
        if self._display is not None and self._estimator.is_paused:
            self._estimator.tick(0)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Redraws the display if enough time has passed since it was last drawn."""
        if self._display is None:
            return
        done = runner.iter + 1
        due = time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN or done == runner.max_iters
        if done % self.interval == 0 or not self._losses or (due and runner.device.type == "cpu"):
            self._read_losses(outputs or {})
        if due:
            self._estimator.tick(done - self._ticked)
            self._ticked = done
            self._draw(runner, done)

    def before_val(self, runner: Runner) -> None:
        """Adds a line for validation."""
        loop: Any = runner.val_loop
        if self._display is None or loop is None:
            return
        self._estimator.tick(runner.iter - self._ticked, between=True)
        self._ticked = runner.iter
        self._estimator.begin_validation(runner.iter)
        lengths = [length_of(runner.val_dataloader)]  # if it is a user's loop
        if hasattr(loop, "sets"):
            lengths = [length_of(each.dataloader) for each in loop.sets if each.name not in loop.left_out]
        self._validation = (0, None if None in lengths else sum(length or 0 for length in lengths))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Updates the validation line."""
        if self._validation is not None:
            done, length = self._validation[0] + 1, self._validation[1]
            self._validation = (done, length)
            self._estimator.continue_validation(done / length if length else 0.0)
            if time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN:
                self._draw(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Removes the validation line. Stores the metrics and updates the best value of each metric."""
        if self._validation is None:
            return
        self._validation = None
        self._estimator.end_validation()
        rules = _best_rules(runner)
        for name, value in (metrics or {}).items():
            if not isinstance(value, Real) or isinstance(value, bool):
                continue
            try:
                rule = rules.get(name) or rule_of(name)
            except ArgumentError:
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
        from footplate.hooks.progress_lines import Progress, format_progress

        if self._display is None:
            return
        scalars, waiting = runner.message_hub.log_scalars, None
        if "train/data_time" in scalars and "train/time" in scalars:
            seconds = scalars["train/time"].mean(_WINDOW)
            waiting = scalars["train/data_time"].mean(_WINDOW) / seconds if seconds else None
        progress = Progress(
            done=done,
            length=runner.max_iters,
            left=self._estimator.seconds_left(done),
            pace=self._estimator.seconds_per_iteration,
            waiting=waiting,
            memory=memory_in_use(runner.device),
            rate=scalars["train/lr"].current() if "train/lr" in scalars else None,
            losses=self._losses,
            metrics={
                validation_label(name, scalars): self._metrics[name]
                for name in order_metrics(self._metrics, list(_best_rules(runner)))
            },
            validation=self._validation,
        )
        self._display.show(format_progress(progress, self._display.width))
        self._drawn_at = time.monotonic()

    def _read_losses(self, outputs: Mapping[str, Any]) -> None:
        """Reads all losses with a single copy from the device."""
        from footplate.hooks.progress_lines import Sparkline

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
                self._losses.setdefault(name, Sparkline()).add(values[name])


def recurring_events(runner: Runner) -> list[RecurringEvent]:
    """Returns recurring events other than validations: epoch starts and saves."""
    epoch = length_of(runner.train_dataloader)
    events = [RecurringEvent(range(epoch + 1, runner.max_iters + 1, epoch) if epoch else ())]
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            length = runner.max_epochs if hook.by_epoch else runner.max_iters
            scale = runner.max_iters // max(length, 1)
            saves: Sequence[int] = ()
            if hook.interval > 0:
                saves = range((hook.save_begin or hook.interval) * scale, length * scale + 1, hook.interval * scale)
            if hook.save_last and length * scale not in saves:
                saves = [*saves, length * scale]
            events.append(RecurringEvent(saves, after_iteration=hook.by_epoch))
    return events


def _validations(runner: Runner) -> list[int]:
    """Returns the iterations after which the run validates.

    The list is empty if a custom loop determines them.
    """
    loop: Any = runner.train_loop
    if runner.val_loop is None or not hasattr(loop, "dynamic_intervals"):
        return []
    changes = list(zip(loop.dynamic_milestones, loop.dynamic_intervals, strict=True))
    end = loop.max_epochs if loop.by_epoch else loop.max_iters
    points = validation_points(end, loop.val_begin, changes[0][1], changes[1:])
    return [point * (loop.max_iters // max(end, 1)) for point in points] if loop.by_epoch else points


def _best_rules(runner: Runner) -> dict[str, str | None]:
    """Maps the metrics of `save_best` to their rules, whether set by the user or derived from the names."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return {name: rule for hook in hooks for name, rule in zip(hook.save_best, hook.rules, strict=True)}
