"""The writer for Trackio."""

from typing import Any

from footplate.records.writers.tracker import LoggingTracker
from footplate.registry import VISBACKENDS


@VISBACKENDS.register_module()
class TrackioVisBackend(LoggingTracker):
    """Writes scalars, images and the config to a Trackio run.

    The library stores all projects in the folder `TRACKIO_DIR`. To view them, run `trackio show`.

    Args:
        save_dir: Not used.
        init_kwargs: Arguments of `trackio.init`, such as `project` ("footplate" by default), `name` and `space_id`.

    Raises:
        MissingExtraError: The package trackio is not installed.
        ArgumentError: `trackio.init` takes no such argument.
    """

    package = "trackio"

    def _start(self) -> Any:
        settings = {"project": "footplate", "embed": False, **self._init_kwargs}
        if "name" in self.identity:
            settings = {"resume": "allow", **settings, "name": self.identity["name"]}
        run = self._library.init(**settings)
        self.identity = {"name": run.name}
        return run
