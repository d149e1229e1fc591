"""The writer for SwanLab."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from footplate.records.writers.tracker import LoggingTracker, import_library
from footplate.registry import VISBACKENDS

_logger = logging.getLogger("footplate.records")


@VISBACKENDS.register_module()
class SwanlabVisBackend(LoggingTracker):
    """Writes scalars, images and the config to a SwanLab run.

    Without a mode and a login, the run is stored offline, so that the library does not prompt for input.

    Args:
        save_dir: The folder for SwanLab's files.
        init_kwargs: Arguments of `swanlab.init`, such as `project`, `name` and `mode="local"`.

    Raises:
        MissingExtraError: The package swanlab is not installed, or for the mode "local" its dashboard.
    """

    package = "swanlab"

    def __init__(self, save_dir: str | None = None, init_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__(save_dir, init_kwargs)
        if (self._init_kwargs.get("mode") or os.environ.get("SWANLAB_MODE")) == "local":
            import_library("swanboard", extra=self.package, why=f"{type(self).__name__} in the mode 'local'")

    def _start(self) -> Any:
        settings = {**self._mode(), **self._init_kwargs}
        if not {"log_dir", "logdir"} & settings.keys():
            settings["log_dir"] = self.folder
        if "id" in self.identity:
            settings = {"id": self.identity["id"], "resume": "allow", **settings}
        run = self._library.init(**settings)
        self.identity = {"id": run.id}
        return run

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
