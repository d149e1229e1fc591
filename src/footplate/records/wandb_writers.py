"""The writer for Weights & Biases."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from footplate.errors import ArgumentError
from footplate.records.base_writer import ImageArray, InitTracker
from footplate.registry import VISBACKENDS

_logger = logging.getLogger("footplate.records")


@VISBACKENDS.register_module()
class WandbVisBackend(InitTracker):
    """Writes scalars, images and the config to a Weights & Biases run.

    Logs the step as a value, so that a run can have metrics per epoch and losses per iteration. If no mode is set and
    the user is not logged in, stores the run offline instead of prompting for input.

    Args:
        save_dir: The folder for the library's files.
        init_kwargs: Arguments for `wandb.init`, such as `project`, `name` and `mode="offline"`.
        define_metric_cfg: The summary of each metric, such as `{"mIoU": "max"}`, or a list of arguments for
            `define_metric`.
        commit: Whether each call to `run.log` completes a history step.
        log_code_name: The artifact name for uploading the code in the current folder. By default, the code is not
            uploaded.
        watch_kwargs: Arguments for `watch`, which `add_graph` calls.

    Raises:
        MissingExtraError: The package wandb is not installed.
        ArgumentError: `init_kwargs` has an argument that `wandb.init` does not accept.
    """

    package = "wandb"

    def __init__(
        self,
        save_dir: str | None = None,
        init_kwargs: Mapping[str, Any] | None = None,
        define_metric_cfg: Mapping[str, str] | Sequence[Mapping[str, Any]] | None = None,
        commit: bool = True,
        log_code_name: str | None = None,
        watch_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(save_dir, init_kwargs)
        self._metrics = define_metric_cfg or {}
        self._commit = commit
        self._log_code_name = log_code_name
        self._watch_kwargs = dict(watch_kwargs or {})

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Adds the config to the run (`run.config`). If `log_code_name` is set, also uploads the code."""
        self.experiment.config.update(config.to_dict(), allow_val_change=True)
        if self._log_code_name is not None:
            self.experiment.log_code(name=self._log_code_name)

    def add_graph(self, model: Any, data_batch: Any, **kwargs: Any) -> None:
        """Calls `watch` on the model with `watch_kwargs`.

        By default, W&B then logs histograms of the gradients; set `log="all"` to include the weights.
        """
        self.experiment.watch(model, **self._watch_kwargs)

    def _start(self) -> Any:
        settings = {"dir": self.folder, **self._mode(), **self._resolved_kwargs()}
        if "id" in self.identity:
            settings = {"id": self.identity["id"], "resume": "allow", **settings}
        run = self._import_library().init(**settings)
        self.identity = {"id": run.id}
        run.define_metric("*", step_metric="step")
        if isinstance(self._metrics, Mapping):
            for name, summary in self._metrics.items():
                run.define_metric(name, summary=summary, step_metric="step")
        else:
            for arguments in self._metrics:
                run.define_metric(**arguments)
        return run

    def _write(self, values: Mapping[str, Any], step: int) -> None:
        self.experiment.log({**values, "step": step}, commit=self._commit)

    def _mode(self) -> dict[str, str]:
        mode = self._init_kwargs.get("mode") or os.environ.get("WANDB_MODE")
        if mode not in (None, "online"):
            return {}
        if os.environ.get("WANDB_API_KEY") or self._import_library().login(prompt=False, verify=False):
            return {}
        if mode == "online":
            # Without a login, the library would prompt for input at the terminal.
            raise ArgumentError(
                "Weights & Biases requires a login in mode 'online'",
                notes=["Run `wandb login`, set WANDB_API_KEY, or set mode='offline'."],
            )
        message = (
            "Not logged in to Weights & Biases, so the run is stored offline in %s. Run `wandb sync` to upload it."
        )
        _logger.warning(message, self._resolved_kwargs().get("dir", self.folder))
        return {"mode": "offline"}

    def _write_image(self, name: str, image: ImageArray, step: int) -> None:
        self._write({name: self._import_library().Image(image)}, step)

    def _finish(self) -> None:
        self._run.finish()
