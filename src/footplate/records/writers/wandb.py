"""The writer for Weights & Biases."""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.errors import MissingExtraError
from footplate.records.writers.base import BaseVisBackend, numbers_in
from footplate.registry import VISBACKENDS


@VISBACKENDS.register_module()
class WandbVisBackend(BaseVisBackend):
    """Writes scalars, pictures and the config to a run of Weights & Biases.

    Scalars carry their step as a value, so that metrics by epoch and losses by iteration stand in one run.

    Args:
        save_dir: The folder for its files.
        init_kwargs: Arguments of `wandb.init`: `project`, `name`, `mode="offline"` ...
        define_metric_cfg: How metrics are summarised: `{"mIoU": "max"}`, or a list of arguments of `define_metric`.
        commit: Whether each call sends what came before it.

    Raises:
        MissingExtraError: The package wandb is not installed.
    """

    def __init__(
        self,
        save_dir: str | None = None,
        init_kwargs: Mapping[str, Any] | None = None,
        define_metric_cfg: Mapping[str, str] | Sequence[Mapping[str, Any]] | None = None,
        commit: bool = True,
    ) -> None:
        super().__init__(save_dir)
        self._library = _wandb()
        self._init_kwargs = dict(init_kwargs or {})
        self._metrics = define_metric_cfg or {}
        self._commit = commit

    @functools.cached_property
    def experiment(self) -> Any:
        """The run; started on first use."""
        folder = self._save_dir or "vis_data"
        os.makedirs(folder, exist_ok=True)
        run = self._library.init(**{"dir": folder, **self._init_kwargs})
        run.define_metric("*", step_metric="step")
        if isinstance(self._metrics, Mapping):
            for name, summary in self._metrics.items():
                run.define_metric(name, summary=summary, step_metric="step")
        else:
            for settings in self._metrics:
                run.define_metric(**settings)
        return run

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as that of the run."""
        self.experiment.config.update(config.to_dict(), allow_val_change=True)

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes a picture: `(H, W, 3)` or `(H, W)`, uint8, RGB."""
        picture = self._library.Image(np.ascontiguousarray(image))
        self.experiment.log({name: picture, "step": step}, commit=self._commit)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Writes one scalar; what is no number is left out."""
        self.add_scalars({name: value}, step)

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Writes several scalars of one step; an own "step" entry takes the place of `step`."""
        self.experiment.log({"step": step, **numbers_in(scalar_dict)}, commit=self._commit)

    def close(self) -> None:
        """Finishes the run."""
        if "experiment" in self.__dict__:
            self.experiment.finish()


def _wandb() -> Any:
    try:
        import wandb  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingExtraError("wandb", extra="wandb", why="WandbVisBackend") from error
    return wandb
