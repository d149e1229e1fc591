"""What hooks see of a run."""

from collections.abc import Mapping
from logging import Logger
from typing import Any, Protocol

import torch

from footplate.checkpoint import BackgroundSaver, SaveRequest
from footplate.config import Config
from footplate.engine.values.activity import Activity
from footplate.engine.values.position import Progress
from footplate.optim import OptimWrapper
from footplate.records import LogProcessor, MessageHub
from footplate.visualization import Visualizer


class Boundary(Protocol):
    """Saves and stops a run between two iterations. The training loop calls it there, and asks for nothing else."""

    def handle(self) -> None:
        """Handles the requests that arrived during an iteration or validation run."""

    def handle_before(self, recorded: Any) -> None:
        """Handles requests in the state that `record` returned before a validation run that was left."""

    def record(self) -> Any:
        """Records the state before a validation run, or returns None if the validation must be completed."""

    def start_saves(self) -> None:
        """Starts the saves that hooks have requested, one after the other."""

    def start_save(self, request: SaveRequest) -> None:
        """Starts a save in the background."""

    def save_on_request(self) -> str:
        """Starts a save from which a resume starts until the next one, and returns its path."""

    def save_after_data_error(self, error: BaseException) -> None:
        """Saves the run after a data error, and adds a note about that to the error."""


class Run(Protocol):
    """A run, as hooks see it: what the methods of a hook receive as `runner`, which is the `Runner`.

    Hooks may also read other members of `Runner`, but the engine and the built-in hooks need only these.
    """

    @property
    def is_plain(self) -> bool:
        """Whether the model is a plain torch module."""

    # Where the run is

    @property
    def iter(self) -> int:
        """The number of completed training iterations."""

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""

    @property
    def completed(self) -> Progress:
        """Like `iter` and `epoch`, but includes the iteration or epoch whose `after_train_...` hooks are running."""

    @property
    def max_iters(self) -> int:
        """The number of iterations in the run."""

    @property
    def max_epochs(self) -> int:
        """The number of epochs in the run."""

    @property
    def by_epoch(self) -> bool:
        """Whether training counts epochs rather than iterations."""

    @property
    def activity(self) -> Activity:
        """What the run is doing."""

    # What it trains

    @property
    def model(self) -> Any:
        """The model, with its distributed and torch.compile wrappers."""

    @property
    def optim_wrapper(self) -> OptimWrapper:
        """The optimizer wrapper, including the optimizer."""

    @property
    def param_schedulers(self) -> Any:
        """The schedules: a list, or a dict of lists if there are several optimizers."""

    @property
    def train_loop(self) -> Any:
        """The training loop, with the `dataloader` for training."""

    @property
    def val_loop(self) -> Any:
        """The validation loop, or None if the run has no validation."""

    @property
    def built(self) -> Mapping[str, Any]:
        """The components that have been built, keyed by name, such as `test_loop`."""

    @property
    def hooks(self) -> Any:
        """The hooks, in execution order; see `HookList`."""

    @property
    def device(self) -> torch.device:
        """The device that this process trains on."""

    @property
    def seed(self) -> int:
        """The seed."""

    @property
    def cfg(self) -> Config:
        """The config of the run."""

    @property
    def recorded_cfg(self) -> Config:
        """The config to record with the run, or the arguments of a run without one."""

    # What it records

    @property
    def message_hub(self) -> MessageHub:
        """The scalars of the run and the latest runtime information."""

    @property
    def history(self) -> Any:
        """The scalars of the run, with one row per epoch; see `History`."""

    @property
    def visualizer(self) -> Visualizer:
        """Writes images, scalars and the config to its backends."""

    @property
    def log_processor(self) -> LogProcessor:
        """Formats log lines."""

    @property
    def logger(self) -> Logger:
        """The logger."""

    @property
    def work_dir(self) -> str:
        """The local folder of the run."""

    @property
    def folder(self) -> Any:
        """The checkpoint folder and the log folder; see `RunFolder`."""

    @property
    def loaded_from(self) -> str | None:
        """The path or address of the checkpoint whose weights were loaded last, or None."""

    # What hooks ask for

    @property
    def requests(self) -> Any:
        """The requests to save, stop or validate; see `Requests`."""

    @property
    def boundary(self) -> Boundary:
        """Saves and stops the run between two iterations."""

    @property
    def saver(self) -> BackgroundSaver:
        """Writes the checkpoint files."""


def records_validation(run: Run) -> bool:
    """Checks whether validation results belong to the current iteration: they are then recorded, not only logged.

    This is the case during training, and in a run without a training loop. After training, `val` may validate weights
    that do not come from the current iteration, such as those of the best checkpoint.
    """
    return run.activity.is_training or "train_loop" not in run.built
