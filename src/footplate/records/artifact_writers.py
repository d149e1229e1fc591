"""Writers for libraries that also store run artifacts: ClearML, DVCLive and MLflow."""

import importlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from footplate.records.base_writer import ImageArray, InitTracker, Scalars, Tracker
from footplate.registry import VISBACKENDS

_logger = logging.getLogger("footplate.records")
# This writer reports all data, so ClearML must not patch other frameworks.
_CLEARML_DEFAULTS = {
    "auto_connect_frameworks": False,
    "auto_connect_arg_parser": False,
    "auto_resource_monitoring": False,
}
# Overrides DVCLive's defaults, which commit to the user's git repository and write dvc.yaml to the current folder.
_DVCLIVE_DEFAULTS = {"save_dvc_exp": False, "dvcyaml": None}
_MLFLOW_MAX_LENGTH = 6000  # the maximum length of a parameter value
_MLFLOW_FORBIDDEN = re.compile(r"[^\w\-. :/]")  # characters that must not occur in names of metrics and parameters


@VISBACKENDS.register_module()
class ClearMLVisBackend(InitTracker):
    """Writes scalars, images and the config to a ClearML task.

    If no server is configured, creates the task offline instead of failing or waiting for a server.

    Args:
        save_dir: The folder with the files to upload as artifacts.
        init_kwargs: Arguments for `Task.init`, such as `project_name` and `task_name`.
        artifact_suffix: The suffixes of the files to upload as artifacts at the end of the run.

    Raises:
        MissingExtraError: The package clearml is not installed.
        ArgumentError: `init_kwargs` has an argument that `Task.init` does not accept.
    """

    package = "clearml"
    starter = "Task.init"

    def __init__(
        self,
        save_dir: str | None = None,
        init_kwargs: Mapping[str, Any] | None = None,
        artifact_suffix: Sequence[str] | str = (".py", ".pth"),
    ) -> None:
        super().__init__(save_dir, init_kwargs)
        self._artifact_suffix = artifact_suffix

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as a configuration object of the task."""
        self.experiment.connect_configuration(config.to_dict(), name="config")

    def _start(self) -> Any:
        task_type = self._import_library().Task
        if hasattr(task_type, "_report_subprocess_enabled"):
            # ClearML forks a reporting process while its threads start git. This sometimes deadlocks.
            task_type._report_subprocess_enabled = False
        # The file is checked last, because a machine with the key may have no home folder.
        has_server = (
            os.environ.get("CLEARML_API_ACCESS_KEY")
            or Path(os.environ.get("CLEARML_CONFIG_FILE") or Path.home() / "clearml.conf").exists()
        )
        if not (task_type.is_offline() or has_server):
            task_type.set_offline(True)
            _logger.warning("No ClearML server is configured. Storing the task offline.")
        if task_type.is_offline():
            # Disables the library's online update check.
            with suppress(ImportError, AttributeError):
                checks = importlib.import_module("clearml.utilities.check_updates").CheckPackageUpdates
                checks.check_new_package_available = staticmethod(lambda **_: None)
        settings = {**_CLEARML_DEFAULTS, **self._resolved_kwargs()}
        if "id" in self.identity:
            settings = {"continue_last_task": self.identity["id"], **settings}
        task = task_type.init(**settings)
        # By default, the steps of a continued task are counted from its last step.
        task.set_initial_iteration(0)
        self.identity = {"id": task.id}
        return task

    def _write(self, values: Scalars, step: int) -> None:
        logger = self.experiment.get_logger()
        for name, value in values.items():
            logger.report_scalar(name, name, value, step)

    def _write_image(self, name: str, image: ImageArray, step: int) -> None:
        self.experiment.get_logger().report_image(name, name, iteration=step, image=image)

    def _finish(self) -> None:
        for path in self._files_to_upload():
            self._run.upload_artifact(os.path.basename(path), path)
        self._run.close()


@VISBACKENDS.register_module()
class DVCLiveVisBackend(InitTracker):
    """Writes scalars, images and the config as DVCLive files.

    A run that resumes in the same work_dir continues in its existing folder.

    Args:
        save_dir: The folder for DVCLive's files.
        artifact_suffix: The suffixes of the files to log as artifacts at the end of the run. Requires
            `save_dvc_exp=True` and a DVC repository.
        init_kwargs: Arguments for `dvclive.Live`, such as `report` and `save_dvc_exp=True`.

    Raises:
        MissingExtraError: The package dvclive is not installed.
        ArgumentError: `init_kwargs` has an argument that `Live` does not accept.
    """

    package = "dvclive"
    starter = "Live"

    def __init__(
        self,
        save_dir: str | None = None,
        artifact_suffix: Sequence[str] | str = (".json", ".py", "yaml"),
        init_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(save_dir, init_kwargs)
        self._artifact_suffix = artifact_suffix

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as DVCLive parameters."""
        # YAML does not support tuples or objects.
        self.experiment.log_params(json.loads(json.dumps(config.to_dict(), default=str)))

    def _start(self) -> Any:
        settings = {**_DVCLIVE_DEFAULTS, "dir": self.folder, **self._resolved_kwargs()}
        continued = self._continued(settings["dir"])
        if continued is None:
            self.identity = {"start": self.start}
        else:
            settings |= {"dir": continued, "resume": True}
        return self._import_library().Live(**settings)

    def _write(self, values: Scalars, step: int) -> None:
        live = self.experiment
        live.step = step
        for name, value in values.items():
            live.log_metric(name, value)
        live.make_summary()

    def _write_image(self, name: str, image: ImageArray, step: int) -> None:
        live = self.experiment
        live.step = step
        live.log_image(f"{name}_{step}.png", image)

    def _finish(self) -> None:
        if self._init_kwargs.get("save_dvc_exp"):
            for path in self._files_to_upload():
                self._run.log_artifact(path)
        self._run.end()


@VISBACKENDS.register_module()
class MLflowVisBackend(Tracker):
    """Writes scalars, images and the config to an MLflow run.

    Args:
        save_dir: The folder for the default store and for the files to log as artifacts.
        exp_name: The name of the experiment. Defaults to "footplate" in the default store, and to "Default" in other
            stores.
        run_name: The name of the run.
        tags: The tags of the run.
        params: Parameters to log in addition to the config.
        tracking_uri: The URI of the store. Defaults to the environment variable MLFLOW_TRACKING_URI, or a SQLite file
            in `save_dir`.
        artifact_suffix: The suffixes of the files in `save_dir` to log as artifacts at the end of the run.
        tracked_config_keys: The top-level config keys to log as parameters. By default, all keys are logged.
        artifact_location: The location where a new experiment stores its artifacts.

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
        self._exp_name = exp_name
        self._run_name = run_name
        self._tags = dict(tags or {})
        self._params = dict(params or {})
        self._tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._artifact_suffix = artifact_suffix
        self._tracked = tracked_config_keys
        self._artifact_location = artifact_location
        self._known_params: set[str] = set()

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Logs the config's values as parameters, and its full text as a file."""
        values = config.to_dict()
        wanted = {key: values[key] for key in values if self._tracked is None or key in self._tracked}
        library = self.experiment
        self._add_params({key: str(value)[:_MLFLOW_MAX_LENGTH] for key, value in _flat(wanted).items()})
        library.log_text(config.pretty_text, "config.py")

    def _start(self) -> Any:
        library = self._import_library()
        store = os.path.join(self.folder, "mlflow.db")
        continued = self._continued(store) if self._tracking_uri is None else None
        start = self.identity["start"] if continued is not None and self.start else self.start
        library.set_tracking_uri(self._tracking_uri or f"sqlite:///{continued or store}")
        # Without a location, an experiment stores artifacts in the current folder; so does "Default" in a new store.
        name = self._exp_name or "Default"
        location = self._artifact_location
        if self._tracking_uri is None:
            name = self._exp_name or "footplate"
            location = location or os.path.join(os.path.dirname(continued or store), "mlartifacts")
        if location is not None and library.get_experiment_by_name(name) is None:
            library.create_experiment(name, location)
        library.set_experiment(name)
        run = library.start_run(run_id=self.identity.get("run_id"), run_name=self._run_name, tags=self._tags or None)
        self.identity = {"run_id": run.info.run_id, "start": start}
        self._known_params = set(run.data.params)
        self._add_params(self._params)
        return library

    def _add_params(self, values: Mapping[str, Any]) -> None:
        # A store rejects new values for existing parameters, but values may have changed in a continued run.
        new = {key: value for key, value in values.items() if key not in self._known_params}
        if new:
            self._import_library().log_params(new)
        self._known_params.update(new)

    def _write(self, values: Scalars, step: int) -> None:
        self.experiment.log_metrics(
            {_MLFLOW_FORBIDDEN.sub("_", name): value for name, value in values.items()}, step=step
        )

    def _write_image(self, name: str, image: ImageArray, step: int) -> None:
        self.experiment.log_image(Image.fromarray(image), f"{name}_{step}.png")

    def _finish(self) -> None:
        for path in self._files_to_upload():
            self._run.log_artifact(path)
        self._run.end_run()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            leaves.update(_flat(item, f"{prefix}{key}."))
        else:
            leaves[_MLFLOW_FORBIDDEN.sub("_", f"{prefix}{key}")] = item
    return leaves
