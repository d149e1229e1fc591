"""Hooks that record a run: log lines, scalars, curve plots and text files."""

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from footplate.checks import check_count, check_folder
from footplate.data import dataset_of, length_of
from footplate.data.dataset_wrappers import count_skipped
from footplate.distributed import is_main_process
from footplate.engine import Hook, Run
from footplate.engine.values.run import records_validation
from footplate.hooks.checkpoint_hook import best_rules
from footplate.messages import printable
from footplate.metric_names import validation_label
from footplate.records import MetricStep, average_over_ranks, numbers_in
from footplate.records.logger import PROGRESS
from footplate.registry import HOOKS
from footplate.storage import check_output_path, commit_bytes, output_path, read_bytes


@HOOKS.register_module()
class LoggerHook(Hook):
    """Logs losses every `interval` iterations and metrics after each validation or test run.

    Args:
        interval: The number of iterations between log lines.
        ignore_last: Whether to skip the last log line of an epoch if it covers fewer than `interval` iterations. Epochs
            shorter than `interval` are always logged at the end. An iteration-based run counts as one epoch.
        interval_exp_name: Ignored; the first line of a run contains the work_dir.
        out_dir: At the end of the run, the logs are copied to a subfolder of this folder, named after the work_dir.
        out_suffix: The suffixes of the files to copy.
        keep_local: Whether to keep the original files after copying.
        file_client_args: Ignored; the path determines the storage.
        log_metric_by_epoch: Whether to record metrics by epoch rather than by iteration. Iteration-based training
            always records them by iteration. A validation or test run without training uses the epoch or iteration of
            the loaded checkpoint.
        backend_args: Ignored; the path determines the storage.

    Raises:
        ArgumentError: An interval is not positive, or `out_dir` is not a path.
    """

    priority = "BELOW_NORMAL"

    def __init__(
        self,
        interval: int = 10,
        ignore_last: bool = True,
        interval_exp_name: int = 1000,
        out_dir: str | None = None,
        out_suffix: Sequence[str] | str = (".json", ".jsonl", ".log", ".py", ".yaml"),
        keep_local: bool = True,
        file_client_args: Mapping[str, Any] | None = None,
        log_metric_by_epoch: bool = True,
        backend_args: Mapping[str, Any] | None = None,
    ) -> None:
        self.interval = check_count("interval", interval)
        self.ignore_last = ignore_last
        self.out_dir = check_folder("out_dir", out_dir)
        self.keep_local = keep_local
        self.out_suffix = (out_suffix,) if isinstance(out_suffix, str) else tuple(out_suffix)
        self.log_metric_by_epoch = log_metric_by_epoch
        self._rest_ends_at = -1  # the last iteration of an epoch or run, if it must be logged
        self._start: dict[str, Any] = {}  # the content of `start.json`

    def before_run(self, runner: Run) -> None:
        """Writes the config to the visualization backends, but only in the runner's first run."""
        if is_main_process() and not self._start:  # otherwise, this is a later run of the same runner
            runner.visualizer.add_config(runner.recorded_cfg)

    def _record_start(self, runner: Run, start: str) -> None:
        """Writes `start.json`, which `footplate analyze` and `report` need in order to interpret the log folder.

        A training run overwrites a file that an evaluation has written to the same folder.
        """
        if not is_main_process() or self._start.get("kind") in ("train", "resume", start):
            return
        trains = start in ("train", "resume")
        checkpoint = None if trains else runner.loaded_from
        if checkpoint and "://" not in checkpoint:
            checkpoint = os.path.abspath(checkpoint)
        self._start = {
            "kind": start,
            "time": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
            "iteration": runner.iter,
            "epoch_length": length_of(runner.train_loop.dataloader) if trains and runner.by_epoch else None,
            "checkpoint": checkpoint,
            "config": getattr(runner.cfg, "filename", None),
        }
        commit_bytes(os.path.join(runner.folder.log_dir, "start.json"), json.dumps(self._start).encode())

    def before_val(self, runner: Run) -> None:
        """Records the start of a validation run that is not part of training."""
        self._record_start(runner, "val")

    def before_test(self, runner: Run) -> None:
        """Records the start of a test run that is not part of training."""
        self._record_start(runner, "test")

    def before_train(self, runner: Run) -> None:
        """Writes the config to the work_dir, and records the start of the run.

        Logs the number of iterations that log lines average over. (The live display shows the latest values instead.)
        Also determines whether to log at the end of an epoch or run.
        """
        if is_main_process():
            runner.folder.write_config(runner.recorded_cfg)
        self._record_start(runner, "resume" if runner.iter else "train")
        window = getattr(runner.log_processor, "window_size", 1)  # a custom log processor may not have one
        if window > 1:
            runner.logger.info("Losses and times in log lines are means over the last %d iterations.", window)
        length = len(runner.train_loop.dataloader) if runner.train_loop.by_epoch else runner.max_iters
        if not self.ignore_last or length <= self.interval:
            self._rest_ends_at = length

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Logs at each interval and, depending on `ignore_last`, at the end of an epoch or run."""
        batch = batch_idx + 1
        if batch % self.interval and batch != self._rest_ends_at:
            return
        average_over_ranks(runner.message_hub.log_scalars)
        tag, line = runner.log_processor.get_log_after_iter(runner, batch_idx, "train")
        runner.logger.info(line, extra=PROGRESS)
        for scalar in runner.message_hub.scalars_of("train").values():
            scalar.mark()
        if is_main_process():
            runner.visualizer.add_scalars(tag, step=runner.iter + 1, file_path=f"{runner.folder.timestamp}.json")

    def _after_iter(
        self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
    ) -> None:
        """Logs the progress of a validation or test run, except after the last batch, which the metrics follow."""
        if not self.every_n_inner_iters(batch_idx, self.interval):
            return
        if batch_idx + 1 != _batches(runner, mode):
            _, line = runner.log_processor.get_log_after_iter(runner, batch_idx, mode)
            runner.logger.info(line, extra=PROGRESS)

    def after_val_epoch(self, runner: Run, metrics: dict[str, float] | None = None) -> None:
        """Logs the metrics, and writes them to the visualization backends; see `records_validation`."""
        tag, line = runner.log_processor.get_log_after_epoch(runner, _batches(runner, "val") or 0, "val")
        name = next(iter(best_rules(runner)), "")
        scalar = runner.message_hub.log_scalars.get(f"val/{name}")
        before, now = scalar.data[0][-2:] if scalar and len(scalar) > 1 else (math.nan, math.nan)
        change = f"\xa0({now - before:+.4g})" if math.isfinite(now - before) else ""
        runner.logger.info(line, extra={"headline": name, "change": change})
        if is_main_process() and records_validation(runner):
            # A training scalar with the same name would have different steps, so the metric gets a prefix. The log
            # processor has added it to the metrics, but not to the times; a custom one may have added none.
            recorded = runner.message_hub.log_scalars
            named = {validation_label(name, recorded): value for name, value in tag.items()}
            self._add_metrics(runner, named, file_path=f"{runner.folder.timestamp}.json")

    def after_test_epoch(self, runner: Run, metrics: dict[str, float] | None = None) -> None:
        """Logs the metrics and writes them to `<timestamp>/<timestamp>.json` and the visualization backends.

        In the backends, metric names are prefixed with `test/`.
        """
        tag, line = runner.log_processor.get_log_after_epoch(
            runner,
            _batches(runner, "test") or 0,
            "test",
            with_non_scalar=True,
        )
        runner.logger.info(line, extra={"headline": next(iter(best_rules(runner)), "")})
        if is_main_process():
            text = json.dumps(tag, default=lambda value: value.tolist() if hasattr(value, "tolist") else str(value))
            commit_bytes(os.path.join(runner.folder.log_dir, f"{runner.folder.timestamp}.json"), text.encode())
            # Without the prefix, test metrics would have the same names as validation metrics.
            metrics = {f"test/{name.removeprefix('test/')}": value for name, value in numbers_in(tag).items()}
            for name in ("test/time", "test/data_time"):
                metrics.pop(name, None)
            self._add_metrics(runner, metrics)

    def after_train(self, runner: Run) -> None:
        """Logs the number of training samples that could not be read, and records whether training stopped early."""
        loop = runner.train_loop
        if is_main_process() and loop.stop_training and loop.units_done < loop.units_total:
            runner.folder.record_stop("the time limit" if loop.out_of_time else "a hook", runner.iter)
        dataset = dataset_of(runner.train_loop.dataloader)
        if skipped := count_skipped(dataset):
            share = f" ({skipped / len(dataset):.0%} of the training data)" if hasattr(dataset, "__len__") else ""
            text = "Unreadable samples were skipped and replaced with others: %d%s. See the warnings above."
            runner.logger.warning(text, skipped, share)

    def after_run(self, runner: Run) -> None:
        """Copies the logs to `out_dir` and closes the visualization backends."""
        if not is_main_process():
            return
        runner.visualizer.close()
        if self.out_dir is None:
            return
        target = os.path.join(self.out_dir, os.path.basename(runner.work_dir))
        if os.path.realpath(target) == os.path.realpath(runner.work_dir):
            return  # out_dir contains the work_dir
        for folder, _, names in os.walk(runner.folder.log_dir):
            for name in names:
                if name.endswith(self.out_suffix):
                    path = os.path.join(folder, name)
                    copy = os.path.join(target, os.path.relpath(path, runner.work_dir))
                    commit_bytes(copy, read_bytes(path))
                    if os.path.exists(copy):  # remote copies have no local file
                        shutil.copystat(path, copy)
                    if not self.keep_local:
                        os.remove(path)

    def _add_metrics(self, runner: Run, metrics: Mapping[str, Any], file_path: str | None = None) -> None:
        # Iteration-based training has no meaningful epochs, whatever `log_metric_by_epoch` is.
        iteration, epoch = runner.completed
        step = epoch if self.log_metric_by_epoch and runner.by_epoch else iteration
        runner.visualizer.add_scalars(metrics, step=MetricStep(step, iteration), file_path=file_path)


def _batches(runner: Run, mode: str) -> int | None:
    """Returns the number of batches of a validation or test run, or None if it is unknown."""
    return length_of(getattr(runner.built.get(f"{mode}_loop"), "dataloader", None))


@HOOKS.register_module()
class RecordHook(Hook):
    """Writes text to `<timestamp>/<filename>` when a run begins.

    Args:
        filename: The name of the file.
        text: The text, or a function that returns it. The function is called when the run begins.
    """

    def __init__(self, filename: str, text: str | Callable[[], str]) -> None:
        self.filename = check_output_path(filename, key="filename")
        self.text = text

    def before_run(self, runner: Run) -> None:
        """Writes the file."""
        if is_main_process():
            text = self.text() if callable(self.text) else self.text
            commit_bytes(output_path(runner.folder.log_dir, self.filename), printable(text).encode())
