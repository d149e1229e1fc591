"""The writer for Trackio."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.records.writers.tracker import Tracker, check_init_kwargs, import_library
from footplate.registry import VISBACKENDS


@VISBACKENDS.register_module()
class TrackioVisBackend(Tracker):
    """Writes scalars, pictures and the config to a run of Trackio.

    The library keeps all projects in one folder, `TRACKIO_DIR`; `trackio show` opens them.

    Args:
        save_dir: Not used.
        init_kwargs: Arguments of `trackio.init`: `project`, by default "footplate", `name`, `space_id` ...

    Raises:
        MissingExtraError: The package trackio is not installed.
        ArgumentError: `trackio.init` takes no such argument.
    """

    def __init__(self, save_dir: str | None = None, init_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__(save_dir)
        self._library = import_library("trackio", extra="trackio", why=type(self).__name__)
        self._init_kwargs = check_init_kwargs(self._library.init, init_kwargs)

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as that of the run."""
        self.experiment.config.update(config.to_dict())

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes a picture: `(H, W, 3)` or `(H, W)`, uint8, RGB."""
        self.experiment.log({name: self._library.Image(np.ascontiguousarray(image))}, step=step)

    def _start(self) -> Any:
        settings = {"project": "footplate", "embed": False, **self._init_kwargs}
        if "name" in self.identity:
            settings = {"resume": "allow", **settings, "name": self.identity["name"]}
        run = self._library.init(**settings)
        self.identity = {"name": run.name}
        return run

    def _write(self, values: dict[str, float], step: int) -> None:
        self.experiment.log(values, step=step)

    def _finish(self) -> None:
        self._run.finish()
