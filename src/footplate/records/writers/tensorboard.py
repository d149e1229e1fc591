"""The writer for TensorBoard."""

from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.errors import MissingExtraError
from footplate.records.writers.tracker import Tracker
from footplate.registry import VISBACKENDS


@VISBACKENDS.register_module()
class TensorboardVisBackend(Tracker):
    """Writes scalars, images and the config as TensorBoard events to `save_dir`.

    If a custom `save_dir` is set, a resumed run writes to the same folder and replaces the events that the earlier run
    wrote after the checkpoint.

    Args:
        save_dir: The output folder, `work_dir/<timestamp>/vis_data` in a run.

    Raises:
        MissingExtraError: The package tensorboard is not installed.
    """

    def __init__(self, save_dir: str | None = None) -> None:
        super().__init__(save_dir)
        self._writer_type = _summary_writer()

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as text."""
        self.experiment.add_text("config", f"```python\n{config.pretty_text}\n```")

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes an image: `(H, W, 3)` or `(H, W)`, uint8, RGB."""
        self.experiment.add_image(
            name, np.ascontiguousarray(image), step, dataformats="HWC" if image.ndim == 3 else "HW"
        )

    def _start(self) -> Any:
        last = self.identity.get("last_step")
        return self._writer_type(self.folder, purge_step=None if last is None else last + 1)

    def _write(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.experiment.add_scalar(name, value, step)
        self.identity["last_step"] = max(step, self.identity.get("last_step", 0))

    def _finish(self) -> None:
        self._run.close()


def _summary_writer() -> Any:
    try:
        # Imported here because the import is slow and most runs do not need it.
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", extra="tensorboard", why="TensorboardVisBackend") from error
    return SummaryWriter
