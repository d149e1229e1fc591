"""The writer for TensorBoard."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.errors import MissingExtraError
from footplate.records.writers.base import BaseVisBackend, numbers_in
from footplate.registry import VISBACKENDS


@VISBACKENDS.register_module()
class TensorboardVisBackend(BaseVisBackend):
    """Writes scalars, pictures and the config as TensorBoard's events, under `save_dir`.

    Args:
        save_dir: The folder, `work_dir/<timestamp>/vis_data` in a run.

    Raises:
        MissingExtraError: The package tensorboard is not installed.
    """

    def __init__(self, save_dir: str | None = None) -> None:
        super().__init__(save_dir)
        self._writer_type = _summary_writer()

    @functools.cached_property
    def experiment(self) -> Any:
        """The SummaryWriter; made on first use."""
        return self._writer_type(self._save_dir or "vis_data")

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as a text."""
        self.experiment.add_text("config", f"```python\n{config.pretty_text}\n```")

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes a picture: `(H, W, 3)` or `(H, W)`, uint8, RGB."""
        self.experiment.add_image(
            name, np.ascontiguousarray(image), step, dataformats="HWC" if image.ndim == 3 else "HW"
        )

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Writes one scalar; what is no number is left out."""
        self.add_scalars({name: value}, step)

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Writes several scalars of one step; an own "step" entry takes the place of `step`."""
        found = numbers_in(scalar_dict)
        at = int(found.pop("step", step))
        for name, value in found.items():
            self.experiment.add_scalar(name, value, at)

    def close(self) -> None:
        """Finishes writing."""
        if "experiment" in self.__dict__:
            self.experiment.close()


def _summary_writer() -> Any:
    try:
        # Here, since it costs time and most runs do without.
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", extra="tensorboard", why="TensorboardVisBackend") from error
    return SummaryWriter
