"""The writer for MLflow."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.errors import MissingExtraError
from footplate.records.writers.base import BaseVisBackend, numbers_in
from footplate.registry import VISBACKENDS

_LONGEST = 6000  # what MLflow keeps of the value of a parameter


@VISBACKENDS.register_module()
class MLflowVisBackend(BaseVisBackend):
    """Writes scalars, pictures and the config to a run of MLflow.

    Args:
        save_dir: The folder of the store where `tracking_uri` names no other.
        exp_name: The experiment; "Default" where it is not given.
        run_name: The run.
        tags: Of the run.
        params: Parameters of the run beside the config's.
        tracking_uri: The store; a SQLite file in `save_dir` by default.
        tracked_config_keys: The top-level keys of the config that are parameters; by default all.

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
        tracked_config_keys: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(save_dir)
        self._library = _mlflow()
        self._exp_name, self._run_name = exp_name or "Default", run_name
        self._tags, self._params = dict(tags or {}), dict(params or {})
        self._tracking_uri = tracking_uri
        self._tracked = tracked_config_keys

    @functools.cached_property
    def experiment(self) -> Any:
        """The module mlflow with a run started; on first use."""
        folder = os.path.abspath(self._save_dir or "vis_data")
        os.makedirs(folder, exist_ok=True)
        self._library.set_tracking_uri(self._tracking_uri or f"sqlite:///{os.path.join(folder, 'mlflow.db')}")
        if self._tracking_uri is None and self._library.get_experiment_by_name(self._exp_name) is None:
            # Else pictures and texts would lie in the current folder.
            self._library.create_experiment(self._exp_name, os.path.join(folder, "mlartifacts"))
        self._library.set_experiment(self._exp_name)
        self._library.start_run(run_name=self._run_name, tags=self._tags or None)
        if self._params:
            self._library.log_params(self._params)
        return self._library

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as parameters, and whole as a text."""
        values = config.to_dict()
        wanted = {key: values[key] for key in values if self._tracked is None or key in self._tracked}
        flat = {key: str(value)[:_LONGEST] for key, value in _flat(wanted).items()}
        self.experiment.log_params(flat)
        self.experiment.log_text(config.pretty_text, "config.py")

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes a picture: `(H, W, 3)` or `(H, W)`, uint8, RGB."""
        self.experiment.log_image(Image.fromarray(np.ascontiguousarray(image)), f"{name}_{step}.png")

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Writes one scalar; what is no number is left out."""
        self.add_scalars({name: value}, step)

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Writes several scalars of one step; an own "step" entry takes the place of `step`."""
        found = numbers_in(scalar_dict)
        self.experiment.log_metrics(found, step=int(found.pop("step", step)))

    def close(self) -> None:
        """Finishes the run."""
        if "experiment" in self.__dict__:
            self.experiment.end_run()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found.update(_flat(item, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = item
    return found


def _mlflow() -> Any:
    try:
        import mlflow  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingExtraError("mlflow", extra="mlflow", why="MLflowVisBackend") from error
    return mlflow
