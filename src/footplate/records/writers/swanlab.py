"""The writer for SwanLab."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.records.writers.tracker import Tracker, check_init_kwargs, import_library
from footplate.registry import VISBACKENDS

_logger = logging.getLogger("footplate.records")


@VISBACKENDS.register_module()
class SwanlabVisBackend(Tracker):
    """Writes scalars, pictures and the config to a run of SwanLab.

    Where no mode is given and no login is known, the run is kept offline: nothing asks or waits.

    Args:
        save_dir: The folder for its files.
        init_kwargs: Arguments of `swanlab.init`: `project`, `name`, `mode="local"` ...

    Raises:
        MissingExtraError: The package swanlab is not installed.
    """

    def __init__(self, save_dir: str | None = None, init_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__(save_dir)
        self._library = import_library("swanlab", extra="swanlab", why=type(self).__name__)
        self._init_kwargs = check_init_kwargs(self._library.init, init_kwargs)

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as that of the run."""
        self.experiment.config.update(config.to_dict())

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes a picture: `(H, W, 3)` or `(H, W)`, uint8, RGB."""
        self.experiment.log({name: self._library.Image(np.ascontiguousarray(image))}, step=step)

    def _start(self) -> Any:
        settings = {**self._mode(), **self._init_kwargs}
        if not {"log_dir", "logdir"} & settings.keys():
            settings["log_dir"] = self.folder
        if "id" in self.identity:
            settings = {"id": self.identity["id"], "resume": "allow", **settings}
        run = self._library.init(**settings)
        self.identity = {"id": run.id}
        return run

    def _write(self, values: dict[str, float], step: int) -> None:
        self.experiment.log(values, step=step)

    def _finish(self) -> None:
        self._run.finish()

    def _mode(self) -> dict[str, str]:
        if "mode" in self._init_kwargs or os.environ.get("SWANLAB_MODE") or _knows_login():
            return {}
        _logger.warning(
            "no login of SwanLab is known: the run is kept offline in %s; `swanlab sync` sends it", self.folder
        )
        return {"mode": "offline"}


def _knows_login() -> bool:
    home = Path(os.environ.get("SWANLAB_SAVE_DIR") or Path.home() / ".swanlab")
    return bool(os.environ.get("SWANLAB_API_KEY")) or (home / ".netrc").exists()
