"""What loops see of a run."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

from footplate.engine.control.module_state import ModuleAttributes
from footplate.engine.control.random_state import TrainingRandomState
from footplate.engine.control.requests import Requests
from footplate.engine.values.activity import Phase
from footplate.engine.values.position import Position
from footplate.engine.values.run import Run


class LoopRun(Run, Protocol):
    """A run, as its loops see it: what hooks see, and what only a loop writes or calls.

    Attributes:
        position: Where the run is. The training loop writes it.
    """

    position: Position

    @property
    def requests(self) -> Requests:
        """The requests to save, stop or validate."""

    @property
    def module_attributes(self) -> ModuleAttributes:
        """The attributes of the model's modules that training changes."""

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Calls the hooks for an event, in order."""

    def phase(self, name: Phase) -> AbstractContextManager[None]:
        """Adds a phase to `activity` for the duration of the block."""

    @property
    def random_state(self) -> TrainingRandomState:
        """The random state that training continues with."""
