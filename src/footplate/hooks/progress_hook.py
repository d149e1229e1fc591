"""The live display on a terminal or in a notebook."""

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch

from footplate.distributed import is_main_process
from footplate.engine import Hook, Runner
from footplate.engine.base_loops import validation_points
from footplate.errors import ArgumentError
from footplate.hooks.checkpoint_hook import CheckpointHook
from footplate.hooks.eta import Clock, Recurring
from footplate.hooks.metric_rules import as_shown, is_better, rule_of
from footplate.hooks.runtime_info_hook import IterTimerHook
from footplate.records import length_of, memory_in_use
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.hooks.live_display import LiveNotebook, LiveText
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
        self._live: LiveText | LiveNotebook | None = None
        self._drawn_at = 0.0
        self._losses: dict[str, Sparkline] = {}
        self._metrics: dict[str, tuple[float, float, int]] = {}
        self._validating: tuple[int, int | None] | None = None
        self._ticked = 0

    def before_train(self, runner: Runner) -> None:
        """Opens the display."""
        live = _screen(leave=lambda: self.stop(runner), suspended=lambda seconds: self._leave_out(runner, seconds))
        if live is None:
            return
        self._clock: Clock = Clock(runner.max_iters, _validations(runner), recurring_in(runner), done=runner.iter)
        self._ticked = runner.iter
        self._live = live
        self._live.open()
        self._draw(runner, runner.iter)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Starts the clock at the first iteration."""
        if self._live is not None and self._clock.paused:
            self._clock.tick(0)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Redraws if the last time is long enough ago."""
        if self._live is None:
            return
        done = runner.iter + 1
        due = time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN or done == runner.max_iters
        if done % self.interval == 0 or not self._losses or (due and runner.device.type == "cpu"):
            self._read_losses(outputs or {})
        if due:
            self._clock.tick(done - self._ticked)
            self._ticked = done
            self._draw(runner, done)

    def before_val(self, runner: Runner) -> None:
        """Adds a line for the validation."""
        if self._live is not None and runner.val_loop is not None:
            self._clock.tick(runner.iter - self._ticked, between=True)
            self._ticked = runner.iter
            self._clock.pause(runner.iter)
            self._validating = (0, _validation_batches(runner))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Updates the line of the validation."""
        if self._validating is not None:
            done, length = self._validating[0] + 1, self._validating[1]
            self._validating = (done, length)
            self._clock.validating(done / length if length else 0.0)
            if time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN:
                self._draw(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Removes the line of the validation and keeps its metrics, and the best value of each with its iteration."""
        if self._validating is None:
            return
        self._validating = None
        self._clock.validated()
        self._take_metrics(metrics or {}, runner.iter, _rules(runner))
        self._draw(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Leaves the last lines on the screen."""
        self.stop(runner)

    def stop(self, runner: Runner) -> None:
        """Draws the final progress and releases the terminal. Also called when training ends with an error."""
        if self._live is not None:
            with suppress(Exception):  # a device may have failed; the error that ended training is reported anyway
                self._draw(runner, runner.iter)
            self._live.close()
            self._live = None

    def _leave_out(self, runner: Runner, seconds: float) -> None:
        """Excludes suspended time from the log and the ETA."""
        self._clock.leave_out(seconds)
        for hook in runner.hooks:
            if isinstance(hook, IterTimerHook):
                hook.leave_out(seconds)

    def _draw(self, runner: Runner, done: int) -> None:
        from footplate.hooks.progress_lines import Readings, lines_of

        if self._live is None:
            return
        readings = Readings(
            done=done,
            length=runner.max_iters,
            left=self._clock.left(done),
            pace=self._clock.seconds_per_iteration,
            waiting=_waiting(runner),
            memory=memory_in_use(runner.device),
            rate=_rate(runner),
            losses=self._losses,
            metrics={
                _told_apart(runner, name): self._metrics[name] for name in as_shown(self._metrics, _counting(runner))
            },
            validating=self._validating,
        )
        self._live.show(lines_of(readings, self._live.width))
        self._drawn_at = time.monotonic()

    def _read_losses(self, outputs: Mapping[str, Any]) -> None:
        """Reads all losses with one copy from the device."""
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

    def _take_metrics(self, metrics: Mapping[str, Any], at: int, rules: Mapping[str, str | None]) -> None:
        for name, value in metrics.items():
            if not isinstance(value, Real) or isinstance(value, bool):
                continue
            try:
                rule = rules.get(name) or rule_of(name)
            except ArgumentError:
                continue  # unknown whether greater is better, for example for a time
            latest, before = float(value), self._metrics.get(name)
            better = before is None or math.isnan(before[1]) or is_better(latest, before[1], rule)
            best, when = (latest, at) if better or before is None else before[1:]
            self._metrics[name] = (latest, best, when)


def _screen(*, leave: Callable[[], None], suspended: Callable[[float], None]) -> "LiveText | LiveNotebook | None":
    """Returns the display for a terminal that can move its cursor or for a notebook, otherwise None.

    In a terminal, the display calls `suspended` with the elapsed seconds when the process continues after Ctrl-Z. In a
    notebook, it calls `leave` when the cell ends. rich is imported only if needed, since that costs time.
    """
    if not is_main_process() or os.environ.get("TERM") == "dumb":
        return None
    if sys.stdout.isatty():
        from footplate.hooks.live_display import LiveText

        return LiveText(sys.stdout, suspended)
    if "IPython" not in sys.modules:
        return None
    from footplate.hooks.live_display import LiveNotebook, running_shell

    shell = running_shell()
    return None if shell is None else LiveNotebook(shell, leave=leave)


def _validations(runner: Runner) -> list[int]:
    """Returns the iterations after which the run validates, as far as its loop determines them."""
    loop: Any = runner.train_loop
    if runner.val_loop is None or not hasattr(loop, "dynamic_intervals"):
        return []
    changes = list(zip(loop.dynamic_milestones, loop.dynamic_intervals, strict=True))
    end = loop.max_epochs if loop.by_epoch else loop.max_iters
    points = validation_points(end, loop.val_begin, changes[0][1], changes[1:])
    return [point * (loop.max_iters // max(end, 1)) for point in points] if loop.by_epoch else points


def recurring_in(runner: Runner) -> list[Recurring]:
    """Returns recurring events other than validations: epoch starts and saves."""
    saves = [_saves_of(hook, runner) for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    epoch = length_of(runner.train_dataloader)
    begins = range(epoch + 1, runner.max_iters + 1, epoch) if epoch else ()
    return [Recurring(begins), *saves]


def _saves_of(hook: CheckpointHook, runner: Runner) -> Recurring:
    units = runner.max_epochs if hook.by_epoch else runner.max_iters
    each = runner.max_iters // max(units, 1)
    points: Sequence[int] = ()
    if hook.interval > 0:
        points = range((hook.save_begin or hook.interval) * each, units * each + 1, hook.interval * each)
    if hook.save_last and units * each not in points:
        points = [*points, units * each]
    return Recurring(points, behind=hook.by_epoch)


def _validation_batches(runner: Runner) -> int | None:
    """Returns the number of batches of all datasets in the current validation, or None if it is unknown."""
    loop: Any = runner.val_loop
    if not hasattr(loop, "sets"):  # a user's loop
        return length_of(runner.val_dataloader)
    lengths = [length_of(each.dataloader) for each in loop.sets if each.name not in loop.left_out]
    return None if None in lengths else sum(length or 0 for length in lengths)


def _told_apart(runner: Runner, name: str) -> str:
    """Returns the name that the log gives to a loss of a validation."""
    return f"val/{name}" if f"train/{name}" in runner.message_hub.log_scalars else name


def _counting(runner: Runner) -> list[str]:
    """Returns the metrics by which checkpoints are saved."""
    return [*_rules(runner)]


def _rules(runner: Runner) -> dict[str, str | None]:
    """Returns the metrics by which best checkpoints are saved, each with its rule, set or derived from its name."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return {name: rule for hook in hooks for name, rule in zip(hook.save_best, hook.rules, strict=True)}


def _waiting(runner: Runner) -> float | None:
    hub = runner.message_hub
    if "train/data_time" not in hub.log_scalars or "train/time" not in hub.log_scalars:
        return None
    whole = hub.history("train/time").mean(_WINDOW)
    return float(hub.history("train/data_time").mean(_WINDOW) / whole) if whole else None


def _rate(runner: Runner) -> float | None:
    if "train/lr" not in runner.message_hub.log_scalars:
        return None
    return float(runner.message_hub.history("train/lr").current())
