"""Ends training in time to validate and save before a time limit."""

import time
from collections.abc import Mapping
from typing import Any

from footplate.checks import check_number, read_number
from footplate.data import length_of
from footplate.engine import Hook, Runner
from footplate.registry import HOOKS

_SECONDS = 3600  # per hour
_MARGIN = 1.25  # the final validation and the final saves may take this many times as long as the longest ones so far
_FADING = 0.9  # the weight of an earlier, longer iteration: the first one may compile the model
_BETWEEN_EXCHANGES = 1.0  # seconds in which ranks exchange their requests, see `AgreementHook`


@HOOKS.register_module()
class TimeLimitHook(Hook):
    """Stops training early enough for the final validation and the final checkpoint to finish before the limit.

    The training loop adds this hook if `train_cfg` sets `max_hours`. The time is counted from the start of training in
    this process, so a resumed run gets the full time again. The end is estimated from the longest validation and save
    so far. Before the first validation, each of its batches is assumed to take as long as a training iteration.

    Args:
        max_hours: The limit in hours.

    Raises:
        ArgumentError: The limit is not a positive number.
    """

    priority = "VERY_LOW"

    def __init__(self, max_hours: float) -> None:
        check_number("max_hours", max_hours, above=0)
        self.max_hours = max_hours
        self._end = time.monotonic() + max_hours * _SECONDS
        self._validation: float | None = None  # the seconds of the longest validation
        self._saving = self._iteration = 0.0  # seconds
        self._since = time.monotonic()  # the end of the previous iteration or validation

    def before_train_epoch(self, runner: Runner) -> None:
        """Starts timing the first iteration."""
        self._since = time.monotonic()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Requests the end of training when the remaining time is needed for validation and saving."""
        now = time.monotonic()
        self._iteration = max(now - self._since, self._iteration * _FADING)
        self._since = now
        if not runner.requests.nears_limit and now + self._needed(runner) >= self._end:
            runner.requests.end_training()

    def before_val(self, runner: Runner) -> None:
        """Starts timing validation."""
        self._since = time.monotonic()

    def after_val(self, runner: Runner) -> None:
        """Records the duration of a validation, and ends training if there is no time for another one."""
        now, requests = time.monotonic(), runner.requests
        self._validation = max(now - self._since, self._validation or 0.0)
        self._since = now
        if runner.train_loop.out_of_time or not runner.train_loop.validating:
            return
        if now + self._needed(runner) >= self._end:
            requests.end_training()
        if runner.world_size > 1:
            requests.agree(runner.device)
        if requests.out_of_time:
            runner.train_loop.end_early()

    def after_run(self, runner: Runner) -> None:
        """Warns if the run exceeded the time limit."""
        late = time.monotonic() - self._end
        if runner.train_loop.out_of_time and late > 0:
            runner.logger.warning("The run ended %.0f s after max_hours=%g.", late, self.max_hours)

    def state_dict(self) -> dict[str, Any]:
        """Returns the durations of the longest validation and the longest save, in seconds."""
        return {"validation": self._validation, "saving": self._saving}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the durations that `state_dict` returned."""
        self._validation = None if state.get("validation") is None else read_number(dict(state), "validation")
        self._saving = read_number(dict(state), "saving")

    def _needed(self, runner: Runner) -> float:
        """Returns the seconds that the next iteration, the final validation and two checkpoints may take."""
        self._saving = max(self._saving, runner.saver.seconds)
        validation = 0.0
        if runner.val_loop is not None:
            unknown = (length_of(runner.val_dataloader) or 0) * self._iteration
            validation = unknown if self._validation is None else self._validation
        exchange = _BETWEEN_EXCHANGES if runner.world_size > 1 else 0.0
        return self._iteration + exchange + _MARGIN * (validation + 2 * self._saving)
