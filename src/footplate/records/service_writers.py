"""Writers for services that manage runs: Weights & Biases and MLflow."""

import inspect
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.checks import check_keys
from footplate.errors import ArgumentError
from footplate.records.base_writer import Tracker
from footplate.registry import VISBACKENDS
from footplate.storage import check_output_path

_logger = logging.getLogger("footplate.records")
_START = re.compile(r"\d{8}_\d{6}(?:_\d+)?")  # the name of `work_dir/<timestamp>`
_MLFLOW_STORE = "mlflow.db"
_MLFLOW_MAX_LENGTH = 6000  # the maximum length of a parameter value
_MLFLOW_FORBIDDEN = re.compile(r"[^\w\-. :/]")  # characters that must not occur in names of metrics and parameters


@VISBACKENDS.register_module()
class WandbVisBackend(Tracker):
    """Writes scalars, images and the config to a Weights & Biases run.

    The step is logged as a value, so that a run can have metrics by epoch and losses by iteration. If neither a mode
    nor a login is set, the run is stored offline, so that the library does not prompt for input.

    Args:
        save_dir: The folder for the library's files.
        init_kwargs: Arguments for `wandb.init`, such as `project`, `name` and `mode="offline"`. The folder `dir` is
            relative to `save_dir`.
        define_metric_cfg: The summaries of metrics, such as `{"mIoU": "max"}`, or a list of arguments for
            `define_metric`.
        commit: Whether each call to `run.log` completes a history step.
        log_code_name: The name under which the code in the current folder is stored with the config. By default, the
            code is not stored.
        watch_kwargs: Arguments for `watch`, which `add_graph` calls.

    Raises:
        MissingExtraError: The package wandb is not installed.
        ArgumentError: `wandb.init` has no such argument, or `dir` is outside `save_dir`.
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
        super().__init__(save_dir)
        self._init_kwargs = dict(init_kwargs or {})
        known = inspect.signature(self._import_library().init).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            check_keys("init_kwargs", self._init_kwargs, known)
        if "dir" in self._init_kwargs:
            check_output_path(self._init_kwargs["dir"], key="init_kwargs.dir")
        self._metrics = define_metric_cfg or {}
        self._commit = commit
        self._log_code_name = log_code_name
        self._watch_kwargs = dict(watch_kwargs or {})

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as the config of the run."""
        self.experiment.config.update(config.to_dict(), allow_val_change=True)
        if self._log_code_name is not None:
            self.experiment.log_code(name=self._log_code_name)

    def add_graph(self, model: Any, data_batch: Any, **kwargs: Any) -> None:
        """Calls `watch` for the model with `watch_kwargs`, to log its gradients and weights."""
        self.experiment.watch(model, **self._watch_kwargs)

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes a uint8 image: RGB `(H, W, 3)` or grayscale `(H, W)`."""
        self._write({name: self._import_library().Image(np.ascontiguousarray(image))}, step)

    def _start(self) -> Any:
        settings = {"dir": "", **self._mode(), **self._init_kwargs}
        settings["dir"] = os.path.normpath(os.path.join(self.folder, settings["dir"]))
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

    def _mode(self) -> dict[str, str]:
        mode = self._init_kwargs.get("mode") or os.environ.get("WANDB_MODE")
        if mode not in (None, "online"):
            return {}
        if os.environ.get("WANDB_API_KEY") or self._import_library().login(prompt=False, verify=False):
            return {}
        if mode == "online":
            # Without a login, the library would wait for input at the terminal.
            raise ArgumentError(
                "mode 'online' of Weights & Biases needs a login",
                notes=["Run `wandb login`, set WANDB_API_KEY, or set mode='offline'."],
            )
        message = "Not logged in to Weights & Biases: the run is stored offline in %s. `wandb sync` uploads it."
        _logger.warning(message, self.folder)
        return {"mode": "offline"}

    def _write(self, values: Mapping[str, Any], step: int) -> None:
        self.experiment.log({**values, "step": step}, commit=self._commit)

    def _finish(self) -> None:
        self._run.finish()


@VISBACKENDS.register_module()
class MLflowVisBackend(Tracker):
    """Writes scalars, images and the config to an MLflow run.

    Args:
        save_dir: The folder of the default store and of the files logged as artifacts.
        exp_name: The name of the experiment. By default, "footplate" in the default store and "Default" in others.
        run_name: The name of the run.
        tags: The tags of the run.
        params: Parameters of the run in addition to those from the config.
        tracking_uri: The URI of the store. By default, the value of MLFLOW_TRACKING_URI, or a SQLite file in
            `save_dir`.
        artifact_suffix: The suffixes of the files in `save_dir` that are logged as artifacts at the end of the run.
        tracked_config_keys: The top-level keys of the config that are logged as parameters. By default, all keys.
        artifact_location: The artifact location of a new experiment.

    Raises:
        MissingExtraError: The package mlflow is not installed.
    """

    package = "mlflow"

    def __init__(
        self,
        save_dir: str | None = None,
        exp_name: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        tracking_uri: str | None = None,
        artifact_suffix: Sequence[str] | str = (".json", ".log", ".py", "yaml"),
        tracked_config_keys: Mapping[str, Any] | Sequence[str] | None = None,
        artifact_location: str | None = None,
    ) -> None:
        super().__init__(save_dir)
        self._exp_name, self._run_name = exp_name, run_name
        self._tags, self._params = dict(tags or {}), dict(params or {})
        self._tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._artifact_suffix = artifact_suffix
        self._tracked = tracked_config_keys
        self._artifact_location = artifact_location
        self._known_params: set[str] = set()

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as parameters, and the full config as text."""
        values = config.to_dict()
        wanted = {key: values[key] for key in values if self._tracked is None or key in self._tracked}
        library = self.experiment
        self._add_params({key: str(value)[:_MLFLOW_MAX_LENGTH] for key, value in _flat(wanted).items()})
        library.log_text(config.pretty_text, "config.py")

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes a uint8 image: RGB `(H, W, 3)` or grayscale `(H, W)`."""
        self.experiment.log_image(Image.fromarray(np.ascontiguousarray(image)), f"{name}_{step}.png")

    def _start(self) -> Any:
        library = self._import_library()
        start, folder = self._default_store()
        library.set_tracking_uri(self._tracking_uri or f"sqlite:///{folder}/{_MLFLOW_STORE}")
        # Without a location, an experiment stores artifacts in the current folder, as does "Default" in a new store.
        name, location = self._exp_name or "Default", self._artifact_location
        if self._tracking_uri is None:
            name = self._exp_name or "footplate"
            location = location or os.path.join(folder, "mlartifacts")
        if location is not None and library.get_experiment_by_name(name) is None:
            library.create_experiment(name, location)
        library.set_experiment(name)
        run = library.start_run(run_id=self.identity.get("run_id"), run_name=self._run_name, tags=self._tags or None)
        self.identity = {"run_id": run.info.run_id, "start": start}
        self._known_params = set(run.data.params)
        self._add_params(self._params)
        return library

    def _default_store(self) -> tuple[str, str]:
        """Returns the name and the folder of the start whose store is used: an earlier one if its store exists.

        A checkpoint may not be trustworthy. Therefore, only the time of the earlier start is taken from it.
        """
        log_dir, name = os.path.split(self.folder)
        work_dir, start = os.path.split(log_dir)
        if not _START.fullmatch(start):  # a custom folder, which all starts share
            return "", self.folder
        earlier = str(self.identity.get("start"))
        folder = os.path.join(work_dir, earlier, name)
        if _START.fullmatch(earlier) and os.path.exists(os.path.join(folder, _MLFLOW_STORE)):
            return earlier, folder
        return start, self.folder

    def _add_params(self, values: Mapping[str, Any]) -> None:
        # A store refuses to change the value of a parameter, and a continued run may have changed values.
        new = {key: value for key, value in values.items() if key not in self._known_params}
        if new:
            self._import_library().log_params(new)
        self._known_params.update(new)

    def _write(self, values: Mapping[str, float], step: int) -> None:
        self.experiment.log_metrics(
            {_MLFLOW_FORBIDDEN.sub("_", name): value for name, value in values.items()}, step=step
        )

    def _finish(self) -> None:
        suffixes = self._artifact_suffix
        suffixes = suffixes if isinstance(suffixes, str) else tuple(suffixes)
        for path in sorted(Path(self.folder).glob("*")):
            if path.name.endswith(suffixes) and path.is_file():
                self._run.log_artifact(str(path))
        self._run.end_run()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            leaves.update(_flat(item, f"{prefix}{key}."))
        else:
            leaves[_MLFLOW_FORBIDDEN.sub("_", f"{prefix}{key}")] = item
    return leaves
