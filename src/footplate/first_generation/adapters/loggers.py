"""Base classes of first-generation loggers."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from footplate.first_generation.adapters.hook import Hook
from footplate.first_generation.adapters.runner_view import view_of

if TYPE_CHECKING:
    from footplate.engine import Runner


class LoggerHook(Hook):
    """Calls `log` every `interval` iterations and after each validation; subclasses implement `log`.

    Args:
        interval: The number of iterations between two calls of `log`.
        ignore_last: Whether not to log at the end of an epoch if fewer than `interval` iterations have passed.
        reset_flag: Whether to clear the averages after each call.
        by_epoch: Whether the run is epoch-based.
    """

    priority = "VERY_LOW"

    def __init__(
        self, interval: int = 10, ignore_last: bool = True, reset_flag: bool = False, by_epoch: bool = True
    ) -> None:
        self.interval = interval
        self.ignore_last = ignore_last
        self.reset_flag = reset_flag
        self.by_epoch = by_epoch

    def log(self, runner: Any) -> None:
        """Logs the values of `get_loggable_tags`."""
        raise NotImplementedError(f"{type(self).__name__} must implement log()")

    def before_epoch(self, runner: Any) -> None:
        """Clears the averages of the previous epoch."""
        runner.log_buffer.clear()

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Computes the averages and logs at the interval."""
        is_time = self.every_n_inner_iters if self.by_epoch else self.every_n_iters
        if is_time(runner, self.interval) or (self.by_epoch and self.end_of_epoch(runner) and not self.ignore_last):
            runner.log_buffer.average(self.interval)
            self.log(runner)
            if self.reset_flag:
                runner.log_buffer.clear_output()

    def after_val_epoch(self, runner: Any) -> None:  # type: ignore[override]
        """Computes the averages and logs after a validation phase of a workflow."""
        runner.log_buffer.average()
        self.log(runner)

    def listeners(self) -> dict[str, Callable[..., Any]]:
        """Returns the callbacks by event, including one that logs validation metrics."""
        return {**super().listeners(), "after_val_epoch": self._log_metrics}

    def _log_metrics(self, runner: "Runner", metrics: Mapping[str, float] | None = None) -> None:
        if "train_loop" not in vars(runner):
            return  # first-generation hooks are not called in a run that only validates
        view = view_of(runner)
        view.mode = "val"
        view.log_buffer.replace_output(metrics or {})
        self.log(view)
        if self.by_epoch:
            view.log_buffer.clear_output()
        else:
            view.log_buffer.clear()  # later averages start after the validation
        view.mode = "train"

    def get_mode(self, runner: Any) -> str:
        """Returns "train" or "val"."""
        return str(runner.mode)

    def get_epoch(self, runner: Any) -> int:
        """Returns the epoch number, from 1."""
        return int(runner.epoch + 1 if runner.mode == "train" else runner.epoch)

    def get_iter(self, runner: Any, inner_iter: bool = False) -> int:
        """Returns the iteration number, from 1, within the epoch if `inner_iter`, else within the run."""
        if self.by_epoch and inner_iter:
            return int(runner.inner_iter + 1)
        return int(runner.iter + (runner.mode == "train"))  # a validation runs after the counter was increased

    def get_step(self, runner: Any) -> int:
        """Returns the step for the scalars."""
        return self.get_epoch(runner) if self.by_epoch and runner.mode == "val" else self.get_iter(runner)

    def get_lr_tags(self, runner: Any) -> dict[str, float]:
        """Returns the learning rate of the first parameter group, for each optimizer if there are several."""
        return _first_of("learning_rate", runner.current_lr())

    def get_momentum_tags(self, runner: Any) -> dict[str, float]:
        """Returns the momentum of the first parameter group, for each optimizer if there are several."""
        return _first_of("momentum", runner.current_momentum())

    def get_loggable_tags(
        self,
        runner: Any,
        allow_scalar: bool = True,
        allow_text: bool = False,
        add_mode: bool = True,
        tags_to_skip: tuple[str, ...] = ("time", "data_time"),
    ) -> "OrderedDict[str, Any]":
        """Returns the values to log by name: averages, learning rates and momenta.

        Args:
            runner: The runner.
            allow_scalar: Whether to include numbers.
            allow_text: Whether to include strings.
            add_mode: Whether to prefix names with the mode, as in `train/loss`.
            tags_to_skip: Names to exclude.
        """
        tags: OrderedDict[str, Any] = OrderedDict()
        for name, value in runner.log_buffer.output.items():
            allowed = allow_text if isinstance(value, str) else allow_scalar
            if name not in tags_to_skip and allowed:
                tags[f"{self.get_mode(runner)}/{name}" if add_mode else name] = value
        tags.update(self.get_lr_tags(runner))
        tags.update(self.get_momentum_tags(runner))
        return tags


class TextLoggerHook(LoggerHook):
    """Logs the values as one line of text.

    This is a base class for user-defined loggers. A `TextLoggerHook` in `log_config` becomes the default LoggerHook.
    """

    def log(self, runner: Any) -> None:
        """Logs one line."""
        tags = self.get_loggable_tags(runner, allow_text=True, add_mode=False, tags_to_skip=())
        values = ", ".join(
            f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}" for name, value in tags.items()
        )
        counter = f"Epoch [{self.get_epoch(runner)}]" if self.by_epoch else "Iter"
        runner.logger.info("%s[%d] %s %s", counter, self.get_iter(runner, inner_iter=True), runner.mode, values)


def _first_of(name: str, values: Any) -> dict[str, float]:
    if isinstance(values, dict):
        return {f"{name}/{part}": each[0] for part, each in values.items()}
    return {name: values[0]}
