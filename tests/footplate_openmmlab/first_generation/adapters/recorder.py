"""A hook that records its calls."""

from typing import Any

from footplate.registry import HOOKS
from footplate_openmmlab.first_generation.adapters import Hook


@HOOKS.register_module()
class Recorder(Hook):
    """Records every event with epoch, iteration, inner iteration and mode."""

    def __init__(self, log: list[Any] | None = None, name: str = "") -> None:
        self.seen: list[Any] = [] if log is None else log
        self.name = name
