"""A hook that validates on schedules that the training loop cannot express."""

import bisect
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from footplate.checks import check_count
from footplate.engine import Hook, ValLoop
from footplate.first_generation.adapters.metric import LegacyMetric
from footplate.hooks import CheckpointHook
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module(name=["EvalHook", "DistEvalHook"])
class EvalHook(Hook):
    """Validates every `interval` epochs or iterations, counted from `start`.

    Args:
        dataloader: The validation data; None uses the validation loop of the config.
        start: The first epoch or iteration after which to validate; 0 also validates before training.
        interval: The number of epochs or iterations between two validations.
        by_epoch: Whether `interval` and `start` are in epochs.
        save_best: A metric, or "auto"; the best checkpoint by this metric is kept.
        rule: "greater" or "less".
        greater_keys: Substrings of metric names for which higher is better.
        less_keys: Substrings of metric names for which lower is better.
        out_dir: Another folder for the best checkpoint.
        dynamic_intervals: `[(milestone, interval), ...]`: the interval from each epoch or iteration on.
        gpu_collect: Whether to collect results with the accelerators.
        tmpdir: Ignored; results are collected with the process group.
        broadcast_bn_buffer: Ignored; validation always uses the buffers of rank 0.
        evaluation: Arguments of the dataset's `evaluate`, if `dataloader` is given.

    Raises:
        ArgumentError: `interval` or `start` is invalid.
    """

    priority = "LOW"
    asks_for_validation = True

    def __init__(
        self,
        dataloader: Any = None,
        start: int | None = None,
        interval: int = 1,
        by_epoch: bool = True,
        save_best: str | None = None,
        rule: str | None = None,
        greater_keys: Sequence[str] | None = None,
        less_keys: Sequence[str] | None = None,
        out_dir: str | None = None,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        *,
        gpu_collect: bool = False,
        tmpdir: str | None = None,
        broadcast_bn_buffer: bool = True,
        **evaluation: Any,
    ) -> None:
        for name, value, least in (("interval", interval, 1), ("start", start, 0)):
            if value is not None:
                check_count(name, value, least=least)
        self.dataloader, self.evaluation = dataloader, evaluation
        self.collect_device = "gpu" if gpu_collect else "cpu"
        self.start, self.by_epoch = start, by_epoch
        self.interval = interval
        self._milestones = [0, *(milestone for milestone, _ in dynamic_intervals or ())]
        self._intervals = [interval, *(each for _, each in dynamic_intervals or ())]
        self._best: dict[str, Any] = {
            "save_best": save_best,
            "rule": rule,
            "greater_keys": greater_keys,
            "less_keys": less_keys,
        }
        self._out_dir = out_dir

    def before_run(self, runner: "Runner") -> None:
        """Replaces the validation loop and registers a hook for the best checkpoint, if configured."""
        if self.dataloader is not None:
            loop = ValLoop(runner, self.dataloader, LegacyMetric(collect_device=self.collect_device, **self.evaluation))
            runner.__dict__["val_loop"] = loop
        if self._best["save_best"]:
            saver: Any = {"interval": -1, "save_last": False, "by_epoch": self.by_epoch, "out_dir": self._out_dir}
            runner.register_hook(CheckpointHook(**saver, **self._best))

    def before_train(self, runner: "Runner") -> None:
        """Disables the loop's own validation interval, and requests a validation first if `start` is 0."""
        runner.train_loop.val_begin = sys.maxsize
        if self.start == 0 and runner.iter == 0 and self._is_due(1):
            runner.train_loop.validation_requested = True

    def after_train_epoch(self, runner: "Runner") -> None:
        """Requests a validation if one is due and `by_epoch` is set."""
        if self.by_epoch and runner.train_loop.by_epoch and self._is_due(runner.epoch + 1):
            runner.train_loop.validation_requested = True

    def after_train_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Requests a validation if one is due and `by_epoch` is not set."""
        if not self.by_epoch and self._is_due(runner.iter + 1):
            runner.train_loop.validation_requested = True

    def _is_due(self, done: int) -> bool:
        interval = self._intervals[bisect.bisect(self._milestones, done) - 1]
        start = self.start or 0
        return done >= start and (done - start) % interval == 0
