"""First-generation logger hooks."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch

from footplate.distributed import is_main_process
from footplate.engine import Runner
from footplate.openmmlab.first_generation.adapters.hook import Hook
from footplate.openmmlab.first_generation.adapters.runner_view import view_of
from footplate.openmmlab.first_generation.translation.log_rules import writer_of
from footplate.openmmlab.refused import refuse
from footplate.records import BaseVisBackend, GuardedWriters
from footplate.registry import HOOKS, VISBACKENDS
from footplate.storage import check_output_path, output_path

_logger = logging.getLogger("footplate.openmmlab.first_generation")


class LoggerHook(Hook):
    """Base class for loggers. Calls `log` every `interval` iterations and after each validation run.

    Args:
        interval: The number of iterations between calls to `log`.
        ignore_last: Whether to skip the last call in an epoch if fewer than `interval` iterations have passed since the
            previous call.
        reset_flag: Whether to clear the averages after each call to `log`.
        by_epoch: Whether the run is epoch-based.
    """

    priority = "VERY_LOW"
    waits_for_validation = False  # logs the metrics separately

    def __init__(
        self, interval: int = 10, ignore_last: bool = True, reset_flag: bool = False, by_epoch: bool = True
    ) -> None:
        self.interval = interval
        self.ignore_last = ignore_last
        self.reset_flag = reset_flag
        self.by_epoch = by_epoch

    def log(self, runner: Any) -> None:
        """Logs the values from `get_loggable_tags`. Must be implemented by subclasses."""
        raise NotImplementedError(f"{type(self).__name__} must implement log()")

    def before_epoch(self, runner: Any) -> None:
        """Clears the previous epoch's averages."""
        runner.log_buffer.clear()

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Computes the averages and logs them if `interval` iterations have passed.

        In an epoch-based run, also logs them at the end of an epoch unless `ignore_last` is set.
        """
        is_time = self.every_n_inner_iters if self.by_epoch else self.every_n_iters
        if is_time(runner, self.interval) or (self.by_epoch and self.end_of_epoch(runner) and not self.ignore_last):
            runner.log_buffer.average(self.interval)
            self.log(runner)
            if self.reset_flag:
                runner.log_buffer.clear_output()

    def after_val_epoch(self, runner: Any) -> None:  # type: ignore[override]
        """Computes and logs the averages of a workflow's validation phase."""
        runner.log_buffer.average()
        self.log(runner)

    def listeners(self) -> dict[str, Callable[..., Any]]:
        """Returns the hook's callbacks, keyed by event, including one that logs validation metrics."""

        def log_metrics(runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
            if "train_loop" not in runner.built:
                return  # runs that only validate do not call first-generation hooks
            view = view_of(runner)
            view.mode = "val"
            view.log_buffer.replace_output(metrics or {})
            self.log(view)
            if self.by_epoch:
                view.log_buffer.clear_output()
            else:
                view.log_buffer.clear()  # so that the next averages exclude iterations before the validation
            view.mode = "train"

        return {**super().listeners(), "after_val_epoch": log_metrics}

    def get_mode(self, runner: Any) -> str:
        """Returns the current mode, "train" or "val"."""
        return str(runner.mode)

    def get_epoch(self, runner: Any) -> int:
        """Returns the epoch number, counted from 1."""
        return int(runner.epoch + 1 if runner.mode == "train" else runner.epoch)

    def get_iter(self, runner: Any, inner_iter: bool = False) -> int:
        """Returns the iteration number, counted from 1.

        If `inner_iter` is set and the run is epoch-based, returns the number within the epoch.
        """
        if self.by_epoch and inner_iter:
            return int(runner.inner_iter + 1)
        return int(runner.iter + (runner.mode == "train"))  # incremented before a validation

    def get_step(self, runner: Any) -> int:
        """Returns the step number for logging scalars.

        This is the epoch number for validation in an epoch-based run, and otherwise the iteration number.
        """
        return self.get_epoch(runner) if self.by_epoch and runner.mode == "val" else self.get_iter(runner)

    def get_lr_tags(self, runner: Any) -> dict[str, float]:
        """Returns the learning rate of each optimizer's first parameter group, as a dict of scalars to log."""
        return _first_of("learning_rate", runner.current_lr())

    def get_momentum_tags(self, runner: Any) -> dict[str, float]:
        """Returns the momentum of each optimizer's first parameter group, as a dict of scalars to log."""
        return _first_of("momentum", runner.current_momentum())

    def get_loggable_tags(
        self,
        runner: Any,
        allow_scalar: bool = True,
        allow_text: bool = False,
        add_mode: bool = True,
        tags_to_skip: tuple[str, ...] = ("time", "data_time"),
    ) -> "OrderedDict[str, Any]":
        """Returns the averages, learning rates and momenta to log, as a dict.

        Args:
            runner: The runner.
            allow_scalar: Whether to include numbers.
            allow_text: Whether to include strings.
            add_mode: Whether to prepend the mode to the names, as in `train/loss`.
            tags_to_skip: Names to exclude.
        """
        tags = OrderedDict[str, Any]()
        for name, value in runner.log_buffer.output.items():
            allowed = allow_text if isinstance(value, str) else allow_scalar
            if name not in tags_to_skip and allowed:
                tags[f"{self.get_mode(runner)}/{name}" if add_mode else name] = value
        tags.update(self.get_lr_tags(runner) | self.get_momentum_tags(runner))
        return tags


class TextLoggerHook(LoggerHook):
    """Logs the values as one line of text.

    Use this class as the base class for your own loggers, which may override `log` or `_log_info`. A `TextLoggerHook`
    in `log_config` is translated to the default LoggerHook.

    Args:
        by_epoch: Whether the run is epoch-based.
        interval: See LoggerHook.
        ignore_last: See LoggerHook.
        reset_flag: See LoggerHook.
        interval_exp_name: The number of iterations between log lines that include the experiment name. Only used by
            subclasses.
        options: Ignored; the log is written to the work_dir.
    """

    def __init__(
        self,
        by_epoch: bool = True,
        interval: int = 10,
        ignore_last: bool = True,
        reset_flag: bool = False,
        interval_exp_name: int = 1000,
        **options: Any,
    ) -> None:
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self.interval_exp_name = interval_exp_name
        self.time_sec_tot = 0.0  # subclasses use it to estimate the remaining time
        self.start_iter = 0

    def before_run(self, runner: Any) -> None:
        """Stores the iteration at which the run starts."""
        self.start_iter = runner.iter

    def log(self, runner: Any) -> Any:
        """Logs the latest values. Returns a dict of these values, plus `mode`, `epoch` and `iter`."""
        log_dict = OrderedDict[str, Any](
            mode=self.get_mode(runner), epoch=self.get_epoch(runner), iter=self.get_iter(runner, inner_iter=True)
        )
        log_dict.update(self.get_loggable_tags(runner, allow_text=True, add_mode=False, tags_to_skip=()))
        self._log_info(log_dict, runner)
        self._dump_log(log_dict, runner)
        return log_dict

    def _log_info(self, log_dict: Mapping[str, Any], runner: Any) -> None:
        """Writes the values to the log in one line."""
        values = ", ".join(
            f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}"
            for name, value in log_dict.items()
            if name not in ("mode", "epoch", "iter")
        )
        counter = f"Epoch [{log_dict['epoch']}]" if self.by_epoch else "Iter"
        runner.logger.info("%s[%d] %s %s", counter, log_dict["iter"], log_dict["mode"], values)

    def _dump_log(self, log_dict: Mapping[str, Any], runner: Any) -> None:
        """Does nothing, because `scalars.json` already contains the values. Subclasses may override this method."""

    def _get_max_memory(self, runner: Any) -> int:
        """Returns the peak GPU memory allocated for tensors, in MiB."""
        return torch.cuda.max_memory_allocated() // 2**20


def _first_of(name: str, values: Any) -> dict[str, float]:
    if isinstance(values, dict):
        return {f"{name}/{part}": each[0] for part, each in values.items()}
    return {name: values[0]}


class WriterLoggerHook(LoggerHook):
    """Base class for loggers that send the values to a writer from the registry VISBACKENDS.

    Use its subclasses in `custom_hooks`, or as base classes for your own loggers. Loggers in `log_config` are
    translated to visualizer backends instead.

    Args:
        values: The settings listed in `arguments`, as positional arguments.
        options: Settings of the logger, and arguments for LoggerHook (`interval`, `ignore_last`, `reset_flag`,
            `by_epoch`). Settings that the writer does not support are ignored with a warning.

    Attributes:
        logger: The logger's name in `log_config`.
        arguments: The names of the settings that can be passed as positional arguments.
    """

    logger = ""
    arguments: ClassVar[tuple[str, ...]] = ("init_kwargs", "interval")

    def __init__(self, *values: Any, **options: Any) -> None:
        settings = {**dict(zip(self.arguments[: len(values)], values, strict=True)), **options}
        names = ("interval", "ignore_last", "reset_flag", "by_epoch")
        super().__init__(**{name: settings[name] for name in names if name in settings})
        self._cfg, unsupported = writer_of(self.logger, settings)
        if "save_dir" in self._cfg:
            check_output_path(self._cfg["save_dir"], key="log_dir")
        if unsupported:
            _logger.warning("%s: %s", type(self).__name__, unsupported)
        self._state: dict[str, Any] = {}
        self._writers: dict[str, BaseVisBackend] = {}
        self._guard = GuardedWriters(self._writers)

    def before_run(self, runner: Any) -> None:
        """Builds the writer in the main process and writes the config."""
        if is_main_process():
            folder = runner.work_dir if "save_dir" in self._cfg else runner.log_dir
            cfg = {**self._cfg, "save_dir": output_path(folder, self._cfg.get("save_dir", "vis_data"))}
            self._writers[cfg["type"]] = VISBACKENDS.build(cfg)
            self._guard.load_state_dict(self._state)
            self._guard.call_all("add_config", runner.resolved.recorded(is_plain=runner.is_plain))

    def log(self, runner: Any) -> None:
        """Sends the values from `get_loggable_tags` to the writer."""
        self._guard.call_all("add_scalars", self.get_loggable_tags(runner), self.get_iter(runner))

    def after_run(self, runner: Any) -> None:
        """Closes the writer."""
        self._guard.close()

    def state_dict(self) -> dict[str, Any]:
        """Returns the writer's state, so that a resumed run continues the same run in the tracking service."""
        return self._guard.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        self._state = state


@HOOKS.register_module()
class TensorboardLoggerHook(WriterLoggerHook):
    """Writes TensorBoard event files to `log_dir` in the work_dir, or by default to `vis_data` in the run's folder."""

    logger = "TensorboardLoggerHook"
    arguments = ("log_dir", "interval")


@HOOKS.register_module()
class WandbLoggerHook(WriterLoggerHook):
    """Writes to a Weights & Biases run. Accepts the settings `init_kwargs`, `commit` and `define_metric_cfg`."""

    logger = "WandbLoggerHook"


@HOOKS.register_module()
class MlflowLoggerHook(WriterLoggerHook):
    """Writes to an MLflow run. Accepts the settings `exp_name`, `tags` and `params`."""

    logger = "MlflowLoggerHook"
    arguments = ("exp_name", "tags", "params", "log_model", "interval")


@HOOKS.register_module()
class ClearMLLoggerHook(WriterLoggerHook):
    """Writes to a ClearML task. Passes the setting `init_kwargs` to `Task.init`."""

    logger = "ClearMLLoggerHook"


@HOOKS.register_module()
class DvcliveLoggerHook(WriterLoggerHook):
    """Writes DVCLive files. Accepts the settings of DVCLive's `Live`; `path` is an alias for `dir`."""

    logger = "DvcliveLoggerHook"
    arguments = ("model_file", "interval")


NeptuneLoggerHook, PaviLoggerHook, SegmindLoggerHook = (
    refuse(service, LoggerHook, HOOKS, module=__name__, noun="logger", advice="derive from LoggerHook")
    for service in ("Neptune", "Pavi", "Segmind")
)
