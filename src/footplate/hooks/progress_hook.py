"""Shows training progress in a terminal or notebook."""

import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from footplate.data import length_of
from footplate.distributed import is_main_process
from footplate.engine import Hook, Run
from footplate.engine.control.process_setup import is_interactive, is_notebook
from footplate.evaluation.evaluation_sets import sets_of
from footplate.hooks.checkpoint_hook import best_rules
from footplate.metric_names import find_rule, is_better, only_term, order_metrics, validation_label
from footplate.records import format_eta, memory_in_use, numbers_in
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from footplate.hooks.live_display import LiveNotebook, LiveTerminal

_SECONDS_BETWEEN = 0.25
_WINDOW = 50  # the number of iterations over which times are averaged
_CURVE_POINTS = 24  # the number of values in a loss curve, which covers the whole run


@HOOKS.register_module()
class ProgressHook(Hook):
    """Displays progress, time left, losses, learning rate, time spent waiting for data, memory and best metrics.

    The display is at the bottom of the terminal, or in the output of a notebook cell. If the output goes to a pipe or
    file, or if `TERM=dumb` is set, nothing is shown. The display is redrawn between iterations, a few times per second,
    without an extra thread. On a GPU, losses are read only every `interval` iterations.

    Args:
        interval: On a GPU, the number of iterations between reads of the losses.
    """

    priority = "LOWEST"

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._display: LiveTerminal | LiveNotebook | None = None
        self._drawn_at = 0.0
        self._began_at = 0.0
        self._losses: dict[str, dict[int, float]] = {}  # the curves: values, keyed by their index
        self._metrics: dict[str, tuple[float, float, int]] = {}  # latest value, best value and its iteration
        self._validation: tuple[int, int | None] | None = None  # validated batches, and their total if known

    def before_train(self, runner: Run) -> None:
        """Opens the display."""
        self._began_at = time.monotonic()
        if not is_interactive() or not is_main_process():
            return
        # Imported only if needed, because importing rich is slow.
        from footplate.hooks.live_display import LiveNotebook, LiveTerminal

        self._display = LiveNotebook() if is_notebook() else LiveTerminal()
        self._draw(runner, runner.iter)

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Redraws the display if it is due."""
        if self._display is None:
            return
        now = time.monotonic()
        iteration = runner.iter + 1
        is_due = now - self._drawn_at >= _SECONDS_BETWEEN or iteration == runner.max_iters
        interval = 1 if is_due and runner.device.type == "cpu" else self.interval
        if iteration % interval == 0 or not self._losses:
            index = _CURVE_POINTS * runner.iter // runner.max_iters
            for name, scalar in runner.message_hub.scalars_of("train").items():
                if "loss" in name:
                    self._losses.setdefault(name, {})[index] = scalar.current()
        if is_due:
            self._draw(runner, iteration)

    def before_val(self, runner: Run) -> None:
        """Adds a line for validation to the display."""
        lengths = [length_of(data.dataloader) for data in sets_of(runner.val_loop)]
        self._validation = (0, None if None in lengths else sum(filter(None, lengths)))

    def after_val_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Updates the validation line."""
        if self._validation is not None:
            count, total = self._validation
            self._validation = (count + 1, total)
            if time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN:
                self._draw(runner, runner.completed.iter)

    def after_val_epoch(self, runner: Run, metrics: dict[str, float] | None = None) -> None:
        """Removes the validation line. Stores the metrics and updates the best value of each metric."""
        self._validation = None
        rules = best_rules(runner)
        iteration = runner.completed.iter
        for name, value in numbers_in(metrics or {}).items():
            rule = rules.get(name) or find_rule(name)
            if rule is None:
                continue  # the name does not imply a rule, for example for a duration
            _, best, best_iter = self._metrics.get(name, (value, value, iteration))
            if is_better(value, best, rule):
                best = value
                best_iter = iteration
            self._metrics[name] = (value, best, best_iter)
        self._draw(runner, iteration)

    def after_train(self, runner: Run) -> None:
        """Draws the final state and closes the display. Commands also call it when training ends with an error."""
        if self._display is not None:
            with suppress(Exception):  # the device may have failed; the error that ended training is reported anyway
                self._draw(runner, runner.iter)
            self._display.close()
            self._display = None

    def _draw(self, runner: Run, iteration: int) -> None:
        if self._display is None:
            return
        from footplate.hooks.live_display import bar_line, loss_text, metric_text, text_line

        self._drawn_at = time.monotonic()
        scalars = runner.message_hub.log_scalars
        lines: list[RenderableType] = [bar_line("train", iteration, runner.max_iters, *self._pace(runner, iteration))]
        repeated = only_term(self._losses)
        now: list[str | Text] = [
            loss_text(name, curve.values()) for name, curve in self._losses.items() if name != repeated
        ]
        if scalars.get("train/lr"):
            now.append(f"lr {scalars['train/lr'].current():.2e}")
        rules = best_rules(runner)
        names = order_metrics(self._metrics, list(rules))
        best = [
            metric_text(validation_label(name, scalars), *self._metrics[name])
            for name in names
            if name != only_term(self._metrics)
        ]
        if {*names[:1]} & rules.keys():
            best[0].stylize("bold")
        lines += [text_line(label, *parts) for label, parts in (("now ", now), ("best", best)) if parts]
        if self._validation is not None:
            lines.append(bar_line("valid", *self._validation))
        self._display.show(lines)

    def _pace(self, runner: Run, iteration: int) -> list[str]:
        """Formats the ETA or, at the end, the total time, the speed, the share of waiting for data, and the memory."""
        scalars = runner.message_hub.log_scalars
        pace = []
        if runner.iter < runner.max_iters:
            pace.append(f"eta {format_eta(runner, runner.max_iters - iteration) or '--:--'}")
        else:
            pace.append(f"in {timedelta(seconds=round(self._drawn_at - self._began_at))}")
        if scalars.get("train/time") and scalars.get("train/data_time"):
            duration = max(scalars["train/time"].mean(_WINDOW), 1e-9)
            waiting = scalars["train/data_time"].mean(_WINDOW) / duration
            speed = f"{duration:.3g} s/it" if duration >= 1 else f"{1 / duration:.3g} it/s"
            pace += [speed, f"{waiting:.0%} waiting for data"]
        return [*pace, f"{memory_in_use(runner.device)} MiB"]
