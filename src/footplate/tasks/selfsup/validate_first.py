"""A hook that reports how much metrics improved since the start of training."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from footplate.engine import Hook
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.registry import HOOKS
from footplate.state_values import check_saved_number

if TYPE_CHECKING:
    from footplate.engine import Runner

_logger = logging.getLogger("footplate.tasks")


@HOOKS.register_module()
class ValidateFirstHook(Hook):
    """Validates before the first iteration, and adds the gain since then to the metrics of later validation runs.

    The gain of the metric `knn/top1` is reported as `gain/knn/top1`, in the same unit.

    Args:
        keys: The metrics to compare; all numbers by default.

    Raises:
        ArgumentError: At the start of the run, if there is no validation, or if a metric in `keys` is unknown.
    """

    priority = "HIGHEST"  # before any hook that records metrics

    def __init__(self, keys: Sequence[str] | None = None) -> None:
        self.keys = None if keys is None else tuple(keys)
        self._start: dict[str, float] = {}

    def before_train(self, runner: "Runner") -> None:
        """Requests a validation before training; a resumed run already has the initial metrics."""
        if runner.val_loop is None:
            raise ArgumentError("validating before training needs a validation", key="val_dataloader")
        if runner.iter == 0:
            runner.train_loop.validation_requested = True

    def after_val_epoch(self, runner: "Runner", metrics: dict[str, Any] | None = None) -> None:
        """Stores the metrics of the first validation, and adds gains to those of later ones."""
        if not metrics or runner.iter and not self._start:
            return
        numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float))}
        if not runner.iter:
            self._start = self._chosen(numbers)
            return
        gains = {name: numbers[name] - start for name, start in self._start.items() if name in numbers}
        told = [f"{name} {self._start[name]:.2f} -> {numbers[name]:.2f} ({gain:+.2f})" for name, gain in gains.items()]
        _logger.info("since the start: %s", ", ".join(told))
        metrics.update({f"gain/{name}": gain for name, gain in gains.items()})

    def state_dict(self) -> dict[str, Any]:
        """Returns the metrics of the first validation."""
        return {"start": dict(self._start)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the metrics of the first validation."""
        self._start = {key: check_saved_number(value, key, finite=False) for key, value in state["start"].items()}

    def _chosen(self, numbers: dict[str, float]) -> dict[str, float]:
        for key in self.keys or ():
            if key not in numbers:
                known = ", ".join(numbers) or "none"
                near = nearest(key, numbers)
                raise ArgumentError(f"no metric is called '{key}'", suggestion=near, notes=[f"metrics: {known}"])
        return numbers if self.keys is None else {key: numbers[key] for key in self.keys}
