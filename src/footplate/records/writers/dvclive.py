"""The writer for DVCLive."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.records.writers.tracker import InitTracker, files_to_keep
from footplate.registry import VISBACKENDS

# By default, the library commits to the user's git repository and writes dvc.yaml to the current folder.
_QUIET = {"save_dvc_exp": False, "dvcyaml": None}


@VISBACKENDS.register_module()
class DVCLiveVisBackend(InitTracker):
    """Writes scalars, images and the config as DVCLive files.

    A resumed run continues in the folder of the earlier start if it is in the same work_dir.

    Args:
        save_dir: The folder for DVCLive's files.
        artifact_suffix: The suffixes of the files that are logged as artifacts at the end of the run if
            `save_dvc_exp` is True, which needs a DVC repository.
        init_kwargs: Arguments of `dvclive.Live`, such as `report` and `save_dvc_exp=True`.

    Raises:
        MissingExtraError: The package dvclive is not installed.
        ArgumentError: `Live` takes no such argument.
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
        """Writes the config as parameters."""
        self.experiment.log_params(_plain(config.to_dict()))

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes an image: `(H, W, 3)` or `(H, W)`, uint8, RGB."""
        live = self.experiment
        live.step = step
        live.log_image(f"{name}_{step}.png", np.ascontiguousarray(image))

    def _start(self) -> Any:
        settings = {**_QUIET, "dir": self.folder, **self._init_kwargs}
        continued = self._continued(settings["dir"])
        if continued is None:
            self.identity = {"start": self.start}
        else:
            settings = {**settings, "dir": continued, "resume": True}
        return self._library.Live(**settings)

    def _write(self, values: dict[str, float], step: int) -> None:
        live = self.experiment
        live.step = step
        for name, value in values.items():
            live.log_metric(name, value)
        live.make_summary()

    def _finish(self) -> None:
        if self._init_kwargs.get("save_dvc_exp"):
            for path in files_to_keep(self._save_dir, self._artifact_suffix):
                self._run.log_artifact(path)
        self._run.end()


def _plain(value: Any) -> Any:
    """Converts values that YAML cannot represent to strings."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
