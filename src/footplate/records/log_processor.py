"""Formats log lines from the buffers of scalars."""

import datetime
import logging
import math
import re
from collections.abc import Collection, Mapping, Sequence
from operator import length_hint
from typing import Any, Protocol

import torch

from footplate.checks import check_choice, check_count, check_keys
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.messages import nearest, one_line
from footplate.metric_names import is_of_class, only_term, validation_label
from footplate.records.environment import memory_in_use
from footplate.records.history_buffer import BUILTIN_STATISTICS, CAPACITY, HistoryBuffer, known_statistics
from footplate.records.message_hub import RENAMED_SUFFIX, MessageHub
from footplate.registry import LOG_PROCESSORS

_RULE_KEYS = ("data_src", "log_name", "method_name", "window_size")
_TIMES = ("time", "data_time")
_RATE = re.compile(r"lr(_[^/]*)?$")
_ETA_WINDOW = 50  # iterations
_MAX_ETA = 10**13  # seconds; close to the maximum of a timedelta
_MAX_VALUES = 16  # the maximum number of values of one metric in a log line
_logger = logging.getLogger("footplate.records")


class LoggedRun(Protocol):
    """What log lines contain of a run. The loops and loaders of all modes are read by name, such as `val_loop`."""

    @property
    def iter(self) -> int:
        """The number of completed iterations."""

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""

    @property
    def completed(self) -> Any:
        """Like `iter` and `epoch`, but includes the iteration or epoch whose `after_train_...` hooks are running."""

    @property
    def max_iters(self) -> int:
        """The number of iterations in the run."""

    @property
    def max_epochs(self) -> int:
        """The number of epochs in the run."""

    @property
    def device(self) -> torch.device:
        """The device that the process trains on."""

    @property
    def message_hub(self) -> MessageHub:
        """The scalars to log."""

    @property
    def train_loop(self) -> Any:
        """The training loop."""


@LOG_PROCESSORS.register_module()
class LogProcessor:
    """Formats log lines from the message hub, and selects scalars for the writers.

    Args:
        window_size: The number of iterations to average losses and times over.
        by_epoch: Whether log lines count epochs instead of iterations.
        custom_cfg: Rules that add or replace values. A rule is a dict, for example `dict(data_src='loss',
            log_name='loss_large', method_name='mean', window_size=100)`. `window_size` is a number, "epoch" or "global"
            (the default). Without a `log_name`, the value replaces the one that is logged by default. Additional keys
            are passed to registered statistics as arguments.
        num_digits: The number of digits after the decimal point.
        log_with_hierarchy: Whether names include the phase, as in `train/loss`.
        mean_pattern: A regular expression for the start of scalar names. Matching scalars are averaged over the window.
            For all other scalars, the latest value is logged.

    Raises:
        ArgumentError: An argument is invalid, or a rule in `custom_cfg` is malformed.
    """

    def __init__(
        self,
        window_size: int = 10,
        by_epoch: bool = True,
        custom_cfg: Sequence[Mapping[str, Any]] | None = None,
        num_digits: int = 4,
        log_with_hierarchy: bool = False,
        mean_pattern: str = r".*(loss|time|data_time|grad_norm).*",
    ) -> None:
        self.window_size = check_count("window_size", window_size, most=CAPACITY)
        self.by_epoch = by_epoch
        self._unit = "Epoch" if by_epoch else "Iter"
        # Skip a rule for '' that some published configs contain; its other keys belong to an older engine.
        self.custom_cfg = [rule for rule in map(dict, custom_cfg or ()) if rule.get("data_src") != ""]
        self.num_digits = num_digits
        self.log_with_hierarchy = log_with_hierarchy
        self.mean_pattern = re.compile(mean_pattern)
        self._rules_are_matched = False
        for index, rule in enumerate(self.custom_cfg):
            with at_key(f"custom_cfg[{index}]"):
                if "data_src" not in rule or "method_name" not in rule:
                    raise ArgumentError("a rule in custom_cfg needs 'data_src' and 'method_name'", found=rule)
                method = check_choice("method_name", rule["method_name"], known_statistics())
                if method in BUILTIN_STATISTICS:
                    check_keys("a rule of custom_cfg", rule, _RULE_KEYS)
                window = rule.get("window_size", "global")
                if window not in ("epoch", "global"):
                    check_count("window_size", window, most=CAPACITY)
                if window == "epoch":
                    if not self.by_epoch:
                        raise ArgumentError("window_size 'epoch' needs by_epoch=True", key="window_size", found=window)
                    rule["window_size"] = "row"  # the history has a row for each epoch
                rule.setdefault("log_name", rule["data_src"])

    def get_log_after_iter(self, runner: LoggedRun, batch_idx: int, mode: str) -> tuple[dict[str, Any], str]:
        """Returns the scalars, keyed by name, and the log line. Call it in an `after_..._iter` hook.

        Args:
            runner: The runner.
            batch_idx: The index of the batch in the epoch, or in the run for iteration-based training.
            mode: "train", "val" or "test".
        """
        tag = self._collect(runner, mode)
        if mode == "train":
            if self.by_epoch:
                tag["epoch"] = runner.epoch + 1
            tag["iter"] = runner.iter + 1
        # Order: learning rates, ETA, times and, in training, memory and all other values.
        rates = {name: value for name, value in tag.items() if _RATE.search(name)}
        parts = [self._head(runner, mode) + self._place(runner, batch_idx, mode)]
        parts += [f"{name}: {value:.{self.num_digits}e}" for name, value in rates.items()]
        left = runner.max_iters - runner.iter - 1 if mode == "train" else _size(runner, mode) - batch_idx - 1
        if eta := format_eta(runner, left, mode):
            parts.append(f"eta: {eta}")
        times = [self._name(mode, key) for key in _TIMES]
        parts += [f"{name}: {tag[name]:.{self.num_digits}f}" for name in times if name in tag]
        if mode == "train":
            tag["memory"] = memory_in_use(runner.device)
            parts.append(f"memory: {tag['memory']}")
            skipped = {"iter", "epoch", "memory", *rates, *times, only_term(tag)}
            parts += [f"{name}: {self._format(value)}" for name, value in tag.items() if name not in skipped]
        return tag, one_line("  ".join(parts))

    def get_log_after_epoch(
        self, runner: LoggedRun, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict[str, Any], str]:
        """Returns the metrics and mean times, keyed by name, and the log line for a validation or test run.

        Args:
            runner: The runner.
            batch_idx: The number of batches.
            mode: "val" or "test".
            with_non_scalar: Whether to also return metrics that are not scalars.
        """
        hub = runner.message_hub
        loop = getattr(runner, f"{mode}_loop")
        metrics = self._collect(runner, mode, loop.metrics if loop else ())
        if mode == "val":
            metrics = {validation_label(name, hub.log_scalars): value for name, value in metrics.items()}
        # Metrics that are not scalars.
        others = {
            self._name(mode, key.partition("/")[2]): value
            for key, value in hub.runtime_info.items()
            if key.startswith(f"{mode}/")
        }
        scalars = _new_scalars(hub, mode)
        times = {
            self._name(mode, key): scalars[key].mean(scalars[key].since_mark)
            for key in reversed(_TIMES)
            if key in scalars
        }
        size = _size(runner, mode)
        # The table of per-class results has already been logged.
        repeated = only_term(metrics)
        summaries = {
            name: value for name, value in metrics.items() if name != repeated and not is_of_class(name, metrics)
        }
        shown = {**summaries, **others, **times}
        values = "  ".join(f"{name}: {self._format(value)}" for name, value in shown.items())
        batches = f"[{size}/{size}]" if size else ""
        line = one_line(f"{self._head(runner, mode)}{batches}    {values}")
        return {**metrics, **(others if with_non_scalar else {}), **times}, line

    def _collect(self, runner: LoggedRun, mode: str, metrics: Collection[str] | None = None) -> dict[str, Any]:
        """Returns the current value, or the mean over the window, of each scalar in a phase that has new values.

        In training, a `Sum` is summed since the last log line. Values that only some iterations have are averaged over
        these iterations, but not beyond the last log line.

        After a validation or test run, `metrics` lists its metrics, and the result contains no times.
        """
        tag: dict[str, Any] = {}
        scalars = _new_scalars(runner.message_hub, mode)
        usual = scalars["time"].since_mark if "time" in scalars else 0  # iterations since the last log line
        for name, scalar in scalars.items():
            if metrics is not None and name in _TIMES:
                continue
            # Scalars of validation also contain values from earlier validations and first-generation workflows.
            is_usual = mode == "train" and scalar.since_mark >= usual
            window = self.window_size if is_usual else min(self.window_size, scalar.since_mark)
            is_metric = name.removesuffix(RENAMED_SUFFIX) in (metrics or ())  # a mean over the dataset
            if scalar.reduction == "sum":
                tag[self._name(mode, name)] = scalar.reduce(scalar.since_mark)
                continue
            is_averaged = self.mean_pattern.match(name) and not is_metric
            if scalar.weight(window if is_averaged else 1):  # a mean over no items is no number
                tag[self._name(mode, name)] = scalar.mean(window) if is_averaged else scalar.current()
        return tag | self._apply_rules(scalars) if mode == "train" else tag

    def _apply_rules(self, scalars: Mapping[str, HistoryBuffer]) -> dict[str, Any]:
        """Returns the training values that `custom_cfg` defines. The first call warns about unknown sources."""
        tag = {}
        is_first = not self._rules_are_matched
        self._rules_are_matched = True
        for rule in self.custom_cfg:
            source = rule["data_src"]
            method = rule["method_name"]
            if source in scalars:
                options = {key: rule[key] for key in rule.keys() - {"data_src", "log_name", "method_name"}}
                if method == "current":  # has no window
                    options = {}
                tag[self._name("train", rule["log_name"])] = scalars[source].statistics(method, **options)
            elif is_first:
                near = nearest(str(source), scalars)
                hint = f" Did you mean '{near}'?" if near else ""
                _logger.warning("A rule in custom_cfg reads '%s', which training does not record.%s", source, hint)
        return tag

    def _place(self, runner: LoggedRun, batch_idx: int, mode: str) -> str:
        """Returns the progress shown in a log line, such as `[2][ 50/100]`. Numbers are as wide as the largest one."""
        if mode == "train" and not self.by_epoch:
            return f"[{runner.iter + 1:{len(str(runner.max_iters))}}/{runner.max_iters}]"
        size = _size(runner, mode)
        batch = f"[{batch_idx + 1:{len(str(size))}}/{size}]" if size else f"[{batch_idx + 1}]"
        if mode != "train":
            return batch
        # Scripts that parse logs expect the padding before the bracket.
        return f"[{runner.epoch + 1}]".rjust(len(f"[{runner.max_epochs}]")) + batch

    def _name(self, mode: str, name: str) -> str:
        return f"{mode}/{name}" if self.log_with_hierarchy else name

    def _head(self, runner: LoggedRun, mode: str) -> str:
        return f"{self._unit}({mode}) " + (f"[{runner.completed.epoch}]" if self.by_epoch and mode == "val" else "")

    def _format(self, value: Any) -> str:
        shape = getattr(value, "shape", ())
        if len(shape) > 1 or math.prod(shape) > _MAX_VALUES:
            return f"{'x'.join(map(str, shape))} values"  # a matrix would break the line
        return f"{value:.{self.num_digits}f}" if isinstance(value, float) else " ".join(str(value).split())


def _new_scalars(hub: MessageHub, mode: str) -> dict[str, HistoryBuffer]:
    """Returns the scalars of a phase that have values since the last `mark`, keyed by name."""
    return {name: scalar for name, scalar in hub.scalars_of(mode).items() if scalar.since_mark}


def _size(runner: LoggedRun, mode: str) -> int:
    """Returns the number of batches in a dataloader, or 0 for streams."""
    return length_hint(getattr(runner, f"{mode}_dataloader"))


def format_eta(runner: LoggedRun, left: int, mode: str = "train") -> str:
    """Formats the time that `left` more iterations and, in training, the validations to come will take.

    Returns "" if the time is unknown.
    """
    hub = runner.message_hub
    scalar = hub.log_scalars.get(f"{mode}/time")
    if not scalar or left < 0:
        return ""
    seconds = scalar.mean(_ETA_WINDOW) * left
    if mode == "train" and "val_seconds" in hub.runtime_info:
        seconds += hub.runtime_info["val_seconds"] * runner.train_loop.validations_left
    return str(datetime.timedelta(seconds=int(min(seconds, _MAX_ETA))))
