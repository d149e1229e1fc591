"""The writer for ClearML."""

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.records.writers.tracker import InitTracker, files_to_keep
from footplate.registry import VISBACKENDS

_logger = logging.getLogger("footplate.records")
# The library must not patch other frameworks, because the writer reports everything itself.
_QUIET = {"auto_connect_frameworks": False, "auto_connect_arg_parser": False, "auto_resource_monitoring": False}


@VISBACKENDS.register_module()
class ClearMLVisBackend(InitTracker):
    """Writes scalars, images and the config to a ClearML task.

    If no server is configured, the task is created offline, so that the writer neither fails nor waits.

    Args:
        save_dir: The folder whose files are uploaded as artifacts.
        init_kwargs: Arguments of `Task.init`, such as `project_name` and `task_name`.
        artifact_suffix: The suffixes of the files that are uploaded as artifacts at the end of the run.

    Raises:
        MissingExtraError: The package clearml is not installed.
        ArgumentError: `Task.init` takes no such argument.
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

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes an image: `(H, W, 3)` or `(H, W)`, uint8, RGB."""
        self.experiment.get_logger().report_image(name, name, iteration=step, image=np.ascontiguousarray(image))

    def _start(self) -> Any:
        if hasattr(self._library.Task, "_report_subprocess_enabled"):
            # ClearML forks a reporting process while its threads start git, which sometimes causes a deadlock.
            self._library.Task._report_subprocess_enabled = False
        if not (self._library.Task.is_offline() or _knows_server()):
            self._library.Task.set_offline(True)
            _logger.warning("no server of ClearML is configured: the task is kept offline")
        if self._library.Task.is_offline():
            _ask_for_no_updates()
        settings = {**_QUIET, **self._init_kwargs}
        if "id" in self.identity:
            settings = {"continue_last_task": self.identity["id"], **settings}
        task = self._library.Task.init(**settings)
        # Otherwise the steps of a continued task would be counted from its last step.
        task.set_initial_iteration(0)
        self.identity = {"id": task.id}
        return task

    def _write(self, values: dict[str, float], step: int) -> None:
        logger = self.experiment.get_logger()
        for name, value in values.items():
            logger.report_scalar(name, name, value, step)

    def _finish(self) -> None:
        for path in files_to_keep(self._save_dir, self._artifact_suffix):
            self._run.upload_artifact(os.path.basename(path), path)
        self._run.close()


def _ask_for_no_updates() -> None:
    """Disables the library's online check for updates, because the task is offline."""
    with suppress(ImportError, AttributeError):
        checks = importlib.import_module("clearml.utilities.check_updates").CheckPackageUpdates
        checks.check_new_package_available = staticmethod(lambda **_: None)


def _knows_server() -> bool:
    named = os.environ.get("CLEARML_CONFIG_FILE")
    return bool(os.environ.get("CLEARML_API_ACCESS_KEY")) or Path(named or Path.home() / "clearml.conf").exists()
