"""First-generation loggers for external services, implemented with the writers of VISBACKENDS."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from footplate.distributed import is_main_process
from footplate.first_generation.adapters.loggers import LoggerHook
from footplate.records import BaseVisBackend, GuardedWriters
from footplate.records.writers.base_writer import Refused
from footplate.registry import HOOKS, VISBACKENDS
from footplate.storage import check_output_path, output_path

_Settings = Mapping[str, Any] | None


class WriterLoggerHook(LoggerHook):
    """Writes the values of a logger with the VISBACKENDS writer that a subclass names in `backend`.

    Loggers in `log_config` become writers of the visualizer instead. These hooks are for `custom_hooks`, and for
    subclasses of them.

    Args:
        settings: Arguments of the writer.
        logging: Arguments of LoggerHook: `interval`, `ignore_last`, `reset_flag`, `by_epoch`.
    """

    backend = ""

    def __init__(self, settings: _Settings = None, **logging: Any) -> None:
        super().__init__(**logging)
        self._settings = {key: value for key, value in (settings or {}).items() if value is not None}
        self._state: dict[str, Any] = {}
        self._writers: dict[str, BaseVisBackend] = {}
        self._guard = GuardedWriters(self._writers)

    def before_run(self, runner: Any) -> None:
        """Builds the writer on the main process and writes the config."""
        super().before_run(runner)
        if is_main_process():
            self._writers[self.backend] = VISBACKENDS.build(
                {"type": self.backend, "save_dir": self.folder(runner), **self._settings}
            )
            self._guard.load_state_dict(self._state)
            self._guard.tell("add_config", runner.recorded_cfg)

    def folder(self, runner: Any) -> str:
        """Returns the output folder of the writer."""
        return os.path.join(runner.log_dir, "vis_data")

    def log(self, runner: Any) -> None:
        """Writes the values of `get_loggable_tags`."""
        self._guard.tell("add_scalars", self.get_loggable_tags(runner), self.get_iter(runner))

    def after_run(self, runner: Any) -> None:
        """Closes the writer."""
        self._guard.close()

    def state_dict(self) -> dict[str, Any]:
        """Returns the state with which a resumed run continues the same run of the service."""
        return self._guard.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads the state from `state_dict`."""
        self._state = state


@HOOKS.register_module()
class TensorboardLoggerHook(WriterLoggerHook):
    """Writes TensorBoard event files.

    Args:
        log_dir: A folder in the work_dir, by default `tf_logs`.
        interval: See LoggerHook, as for the other arguments.
    """

    backend = "TensorboardVisBackend"

    def __init__(self, log_dir: str | None = None, interval: int = 10, **logging: Any) -> None:
        super().__init__(interval=interval, **logging)
        self.log_dir = check_output_path("tf_logs" if log_dir is None else log_dir, key="log_dir")

    def folder(self, runner: Any) -> str:
        """Returns the folder of the event files."""
        return output_path(runner.work_dir, self.log_dir)


@HOOKS.register_module()
class WandbLoggerHook(WriterLoggerHook):
    """Writes to a Weights & Biases run.

    Args:
        init_kwargs: Arguments of `wandb.init`.
        interval: See LoggerHook, as for `ignore_last`, `reset_flag` and `by_epoch`.
        commit: Whether each call of `wandb.log` ends a step.
        with_step: Ignored; the step is always passed.
        log_artifact: Ignored; artifacts are not uploaded.
        out_suffix: Ignored; artifacts are not uploaded.
        define_metric_cfg: The `summary` of `wandb.define_metric` by metric.
    """

    backend = "WandbVisBackend"

    def __init__(
        self,
        init_kwargs: _Settings = None,
        interval: int = 10,
        ignore_last: bool = True,
        reset_flag: bool = False,
        commit: bool = True,
        by_epoch: bool = True,
        with_step: bool = True,
        log_artifact: bool = True,
        out_suffix: Sequence[str] | str = (),
        define_metric_cfg: Any = None,
    ) -> None:
        settings = {"init_kwargs": init_kwargs, "commit": commit, "define_metric_cfg": define_metric_cfg}
        super().__init__(settings, interval=interval, ignore_last=ignore_last, reset_flag=reset_flag, by_epoch=by_epoch)


@HOOKS.register_module()
class MlflowLoggerHook(WriterLoggerHook):
    """Writes to an MLflow run.

    Args:
        exp_name: The name of the experiment.
        tags: The tags of the run.
        params: The parameters of the run.
        log_model: Ignored; models are not uploaded.
        interval: See LoggerHook, as for the other arguments.
    """

    backend = "MLflowVisBackend"

    def __init__(
        self,
        exp_name: str | None = None,
        tags: _Settings = None,
        params: _Settings = None,
        log_model: bool = True,
        interval: int = 10,
        **logging: Any,
    ) -> None:
        super().__init__({"exp_name": exp_name, "tags": tags, "params": params}, interval=interval, **logging)


@HOOKS.register_module()
class ClearMLLoggerHook(WriterLoggerHook):
    """Writes to a ClearML task.

    Args:
        init_kwargs: Arguments of `Task.init`.
        interval: See LoggerHook, as for the other arguments.
    """

    backend = "ClearMLVisBackend"

    def __init__(self, init_kwargs: _Settings = None, interval: int = 10, **logging: Any) -> None:
        super().__init__({"init_kwargs": init_kwargs}, interval=interval, **logging)


@HOOKS.register_module()
class DvcliveLoggerHook(WriterLoggerHook):
    """Writes DVCLive files.

    Args:
        model_file: Ignored; models are not logged.
        interval: See LoggerHook, as for `ignore_last`, `reset_flag` and `by_epoch`.
        path: The folder; an alias of `dir`.
        live: Arguments of DVCLive's `Live`: `dir`, `report` ...
    """

    backend = "DVCLiveVisBackend"

    def __init__(
        self,
        model_file: str | None = None,
        interval: int = 10,
        ignore_last: bool = True,
        reset_flag: bool = False,
        by_epoch: bool = True,
        path: str | None = None,
        **live: Any,
    ) -> None:
        live = {**live, "dir": path} if path is not None else live
        super().__init__(
            {"init_kwargs": live}, interval=interval, ignore_last=ignore_last, reset_flag=reset_flag, by_epoch=by_epoch
        )


class _RefusedLoggerHook(Refused, LoggerHook):
    noun = "logger"
    advice = "derive from LoggerHook"


@HOOKS.register_module()
class NeptuneLoggerHook(_RefusedLoggerHook):
    """Raises an error, because there is no writer for Neptune."""

    service = "Neptune"


@HOOKS.register_module()
class PaviLoggerHook(_RefusedLoggerHook):
    """Raises an error, because there is no writer for Pavi."""

    service = "Pavi"


@HOOKS.register_module()
class SegmindLoggerHook(_RefusedLoggerHook):
    """Raises an error, because there is no writer for Segmind."""

    service = "Segmind"
