"""Adds members of MMEngine's writers to footplate's writers, for subclasses that use `force_init_env`."""

import os
from typing import Any

from footplate.records import BaseVisBackend, TensorboardVisBackend, WandbVisBackend


class WriterMembers(BaseVisBackend):
    """The members that `add_members` adds to `BaseVisBackend`."""

    def _init_env(self) -> None:
        """Creates the output folder. Called before the first call of a decorated method."""
        os.makedirs(self._save_dir or "vis_data", exist_ok=True)


class TensorboardMembers(TensorboardVisBackend):
    """The members that `add_members` adds to `TensorboardVisBackend`."""

    _tensorboard: Any

    def _init_env(self) -> None:
        self._tensorboard = self.experiment


class WandbMembers(WandbVisBackend):
    """The members that `add_members` adds to `WandbVisBackend`."""

    _wandb: Any

    def _init_env(self) -> None:
        self._wandb = self.experiment
