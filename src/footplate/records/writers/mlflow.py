"""The writer for MLflow."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.records.writers.tracker import Tracker, files_to_keep, import_library
from footplate.registry import VISBACKENDS

_LONGEST = 6000  # MLflow's maximum length of a parameter value
_FORBIDDEN = re.compile(r"[^\w\-. :/]")  # characters that names of metrics and parameters must not contain


@VISBACKENDS.register_module()
class MLflowVisBackend(Tracker):
    """Writes scalars, images and the config to an MLflow run.

    Args:
        save_dir: The folder of the default store, and of the files that are logged as artifacts.
        exp_name: The name of the experiment; by default "footplate" in the default store and "Default" in others.
        run_name: The name of the run.
        tags: The tags of the run.
        params: Parameters of the run in addition to those from the config.
        tracking_uri: The URI of the store; by default that in MLFLOW_TRACKING_URI, or a SQLite file in `save_dir`.
        artifact_suffix: The suffixes of the files in `save_dir` that are logged as artifacts at the end of the run.
        tracked_config_keys: The top-level keys of the config that are logged as parameters; all by default.
        artifact_location: The artifact location of a new experiment.

    Raises:
        MissingExtraError: The package mlflow is not installed.
    """

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
        self._library = import_library("mlflow", extra="mlflow", why=type(self).__name__)
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
        self._add_params({key: str(value)[:_LONGEST] for key, value in _flat(wanted).items()})
        library.log_text(config.pretty_text, "config.py")

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes an image: `(H, W, 3)` or `(H, W)`, uint8, RGB."""
        self.experiment.log_image(Image.fromarray(np.ascontiguousarray(image)), f"{name}_{step}.png")

    def _start(self) -> Any:
        library = self._library
        store = os.path.join(self.folder, "mlflow.db")
        continued = self._continued(store) if self._tracking_uri is None else None
        start = self.identity["start"] if continued is not None and self.start else self.start
        library.set_tracking_uri(self._tracking_uri or f"sqlite:///{continued or store}")
        self._choose_experiment(os.path.dirname(continued or store))
        run = library.start_run(run_id=self.identity.get("run_id"), run_name=self._run_name, tags=self._tags or None)
        self.identity = {"run_id": run.info.run_id, "start": start}
        self._known_params = set(run.data.params)
        self._add_params(self._params)
        return library

    def _choose_experiment(self, folder: str) -> None:
        library, own_store = self._library, self._tracking_uri is None
        location = self._artifact_location
        # Without a location, an experiment stores artifacts in the current folder, as does "Default" in a new store.
        name = self._exp_name or ("footplate" if own_store else "Default")
        if location is None and own_store:
            location = os.path.join(folder, "mlartifacts")
        if location is not None and library.get_experiment_by_name(name) is None:
            library.create_experiment(name, location)
        library.set_experiment(name)

    def _add_params(self, values: Mapping[str, Any]) -> None:
        # A store refuses to change the value of a parameter, which a continued run may try.
        new = {key: value for key, value in values.items() if key not in self._known_params}
        if new:
            self._library.log_params(new)
        self._known_params.update(new)

    def _write(self, values: dict[str, float], step: int) -> None:
        self.experiment.log_metrics({_FORBIDDEN.sub("_", name): value for name, value in values.items()}, step=step)

    def _finish(self) -> None:
        for path in files_to_keep(self._save_dir, self._artifact_suffix):
            self._run.log_artifact(path)
        self._run.end_run()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found.update(_flat(item, f"{prefix}{key}."))
        else:
            found[_FORBIDDEN.sub("_", f"{prefix}{key}")] = item
    return found
