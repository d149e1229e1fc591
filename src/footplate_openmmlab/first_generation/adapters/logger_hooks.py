"""First-generation logger hooks."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch

from footplate.engine import Runner
from footplate.errors import ConfigError, import_optional
from footplate.registry import HOOKS
from footplate_openmmlab.first_generation.adapters.hook import Hook
from footplate_openmmlab.first_generation.adapters.runner_view import view_of
from footplate_openmmlab.mmengine.dist import master_only


class LoggerHook(Hook):
    """Base class for loggers. Calls `log` every `interval` iterations and after each validation run.

    Args:
        interval: The number of iterations between calls to `log`.
        ignore_last: Whether to skip the last call in an epoch if fewer than `interval` iterations have passed since the
            previous call.
        reset_flag: Ignored; the averages are cleared after each call to `log`, as mmcv's last logger does.
        by_epoch: Whether the run is epoch-based.
    """

    priority = "VERY_LOW"
    waits_for_validation = False  # logs the metrics separately

    def __init__(
        self, interval: int = 10, ignore_last: bool = True, reset_flag: bool = False, by_epoch: bool = True
    ) -> None:
        self.interval, self.ignore_last = interval, ignore_last
        self.reset_flag, self.by_epoch = reset_flag, by_epoch

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
            view.log_buffer.clear_output()
            if not self.by_epoch:
                view.log_buffer.clear()  # so that the next averages exclude iterations before the validation
            view.mode = "train"

        return {**super().listeners(), "after_val_epoch": log_metrics}

    def get_mode(self, runner: Any) -> str:
        """Returns the current mode, "train" or "val"."""
        return str(runner.mode)

    def get_epoch(self, runner: Any) -> int:
        """Returns the epoch number, counted from 1."""
        return int(runner.epoch + 1 if runner.mode == "train" else runner.completed.epoch)

    def get_iter(self, runner: Any, inner_iter: bool = False) -> int:
        """Returns the iteration number, counted from 1. Between epochs, it is the number of the next iteration.

        If `inner_iter` is set and the run is epoch-based, returns the number within the epoch.
        """
        if self.by_epoch and inner_iter:
            return int(runner.inner_iter + 1)
        return int(runner.iter + 1 if runner.mode == "train" else runner.completed.iter + runner.by_epoch)

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


@HOOKS.register_module()
class TextLoggerHook(LoggerHook):
    """Logs the values as one line of text.

    Use this class as the base class for your own loggers, which may override `log` or `_log_info`. A run replaces a
    `TextLoggerHook` itself with the default LoggerHook.

    Args:
        by_epoch: Whether the run is epoch-based.
        interval: The number of iterations between log entries.
        ignore_last: Whether to skip an epoch's last entry if fewer than `interval` iterations have passed.
        reset_flag: Whether to clear the averages after each entry.
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
        settings = {"by_epoch": by_epoch, "interval": interval, "ignore_last": ignore_last}
        self.cfg = {"type": "TextLoggerHook", **settings, "interval_exp_name": interval_exp_name}
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

    def _round_float(self, items: Any) -> Any:
        """Rounds a number, or the numbers in a list, to five digits. For subclasses that write their own log."""
        if isinstance(items, list):
            return [self._round_float(item) for item in items]
        return round(items, 5) if isinstance(items, float) else items

    def _get_max_memory(self, runner: Any) -> int:
        """Returns the peak GPU memory allocated for tensors, in MiB."""
        return torch.cuda.max_memory_allocated() // 2**20


def _first_of(name: str, values: Any) -> dict[str, float]:
    if isinstance(values, dict):
        return {f"{name}/{part}": each[0] for part, each in values.items()}
    return {name: values[0]}


@HOOKS.register_module()
class TensorboardLoggerHook(LoggerHook):
    """Writes TensorBoard event files. In `log_config`, it is translated to a visualizer backend instead.

    Args:
        log_dir: The folder; by default, `tf_logs` in the work_dir.
        args: Arguments for LoggerHook.
        settings: Arguments for LoggerHook.

    Attributes:
        writer: The SummaryWriter. Only rank 0 has one.
    """

    def __init__(self, log_dir: str | None = None, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.log_dir = log_dir

    @master_only
    def before_run(self, runner: Any) -> None:
        """Opens the writer."""
        library = import_optional(
            "torch.utils.tensorboard", extra="tensorboard", why="TensorboardLoggerHook", package="tensorboard"
        )
        self.log_dir = self.log_dir or os.path.join(runner.work_dir, "tf_logs")
        self.writer = library.SummaryWriter(self.log_dir)

    @master_only
    def log(self, runner: Any) -> None:
        """Writes the values from `get_loggable_tags`."""
        for name, value in self.get_loggable_tags(runner).items():
            self.writer.add_scalar(name, value, self.get_iter(runner))

    @master_only
    def after_run(self, runner: Any) -> None:
        """Closes the writer."""
        self.writer.close()


@HOOKS.register_module()
class WandbLoggerHook(LoggerHook):
    """Writes to a Weights & Biases run. In `log_config`, it is translated to a visualizer backend instead.

    Args:
        init_kwargs: Arguments for `wandb.init`.
        interval: The number of iterations between log entries.
        ignore_last: Whether to skip an epoch's last entry if fewer than `interval` iterations have passed.
        reset_flag: Whether to clear the averages after each entry.
        commit: Whether to send the values at once. With `with_step`, they are sent when a later step is logged.
        by_epoch: Whether the run is epoch-based.
        with_step: Whether to log the iteration as W&B's step instead of as the value `global_step`.
        log_artifact: Ignored; log files are not uploaded.
        out_suffix: Ignored.
        define_metric_cfg: Maps names of metrics to the summaries that W&B computes, such as "max".

    Attributes:
        wandb: The module wandb.
    """

    def __init__(
        self,
        init_kwargs: Mapping[str, Any] | None = None,
        interval: int = 10,
        ignore_last: bool = True,
        reset_flag: bool = False,
        commit: bool = True,
        by_epoch: bool = True,
        with_step: bool = True,
        log_artifact: bool = False,
        out_suffix: Any = None,
        define_metric_cfg: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self.import_wandb()
        self.init_kwargs, self.commit, self.with_step = init_kwargs, commit, with_step
        self.define_metric_cfg = define_metric_cfg

    def import_wandb(self) -> None:
        """Imports wandb. Subclasses may override this method."""
        self.wandb = import_optional("wandb", extra="wandb", why="WandbLoggerHook")

    @master_only
    def before_run(self, runner: Any) -> None:
        """Starts the W&B run."""
        self.wandb.init(**(self.init_kwargs or {}))
        for name, summary in (self.define_metric_cfg or {}).items():
            self.wandb.define_metric(name, summary=summary)

    @master_only
    def log(self, runner: Any) -> None:
        """Sends the values from `get_loggable_tags`."""
        tags, step = self.get_loggable_tags(runner), self.get_iter(runner)
        if self.with_step:
            # If this committed the step, W&B would reject validation values, which have the same step.
            self.wandb.log(tags, step=step)
        else:
            self.wandb.log({**tags, "global_step": step}, commit=self.commit)

    @master_only
    def after_run(self, runner: Any) -> None:
        """Ends the W&B run."""
        self.wandb.finish()


class ReplacedLoggerHook(LoggerHook):
    """A logger that scripts and `log_config` replace with a visualizer backend or, without one, remove with a warning.

    Attributes:
        cfg: The config of the logger, which is translated like an item of `log_config["hooks"]`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(settings.get("interval", 10), by_epoch=settings.get("by_epoch", True))
        self.cfg = {"type": type(self).__name__, **settings}

    def listeners(self) -> dict[str, Callable[..., Any]]:
        """Raises a ConfigError, because the logger was not replaced."""
        name = type(self).__name__
        message = f"'{name}' can only be used in the `log_config` of a first-generation config, or in a script"
        raise ConfigError(message, notes=["For other configs, see docs/output-files.md."])


ClearMLLoggerHook, DvcliveLoggerHook, MlflowLoggerHook, NeptuneLoggerHook, PaviLoggerHook, SegmindLoggerHook = (
    HOOKS.register_module(
        module=type(
            f"{name}LoggerHook",
            (ReplacedLoggerHook,),
            {"__module__": __name__, "__doc__": f"The {name} logger of mmcv; see ReplacedLoggerHook."},
        )
    )
    for name in ("ClearML", "Dvclive", "Mlflow", "Neptune", "Pavi", "Segmind")
)
