"""Hooks that record learning rates, losses, metrics and times in the message hub."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from footplate.data import metainfo_of
from footplate.data.waiting import data_wait
from footplate.distributed import get_world_size
from footplate.engine import Hook, Run
from footplate.engine.loops.base_loops import BaseTrainLoop
from footplate.engine.values.position import Progress
from footplate.engine.values.run import records_validation
from footplate.errors import ArgumentError
from footplate.records import HistoryBuffer, average_over_ranks, numbers_in, recorded_name
from footplate.registry import HOOKS
from footplate.weighted import LoggedValues

_logger = logging.getLogger("footplate.hooks")
_LONG_WAIT = 60.0  # seconds of waiting for data before a warning
_AVERAGING_INTERVAL = 1000  # in iterations; limits how many values ranks exchange at once
_MAX_RATES = 8  # the number of further learning rates to log for one optimizer
_TIMES = ("time", "data_time")  # not recorded, because a resumed run could not reproduce them


@HOOKS.register_module()
class RuntimeInfoHook(Hook):
    """Records the epoch, iteration, learning rates, losses and metrics in the message hub.

    The runtime info entries are `loop_stage`, `epoch`, `iter`, `max_epochs`, `max_iters`, `seed`, `experiment_name`,
    `cfg` and `dataset_meta`. The scalars are `train/lr` and other rates, `train/<loss>`, `val/<metric>` and
    `test/<metric>`. A loss or metric whose name is reserved for the log, such as `lr` or `time`, is recorded as
    `<name>_of_model`.

    With several processes, each process first records only its own losses. Before losses are logged or saved, they are
    replaced with means over all processes.

    Adds rows to the runner's `history`. A row contains the latest learning rates, and the means of the losses and other
    training scalars (except times):

    | training | adds a row after | means since |
    |---|---|---|
    | epoch-based | each epoch | the start of the epoch |
    | iteration-based | each validation interval | the previous row |

    Validation at other times, for example when a hook requests it, also adds a row.
    """

    priority = "VERY_HIGH"
    # Set by `before_train`:
    _loop: BaseTrainLoop
    _last_row: Progress  # the position of the last row with losses
    _rates: dict[str, dict[str, Any]]  # see `_find_rates`
    _rate_scalars: list[tuple[HistoryBuffer, dict[str, Any]]]
    _losses: dict[str, HistoryBuffer]  # keyed by the names that `train_step` returns

    def before_run(self, runner: Run) -> None:
        """Records the config, the seed and the experiment name."""
        runner.message_hub.update_info_dict(
            {
                "cfg": getattr(runner.cfg, "pretty_text", ""),
                "seed": runner.seed,
                "experiment_name": runner.message_hub.instance_name,
            },
            resumed=False,
        )

    def before_train(self, runner: Run) -> None:
        """Records the length of the run, and determines which learning rates to record in each iteration."""
        hub = runner.message_hub
        hub.update_info_dict(
            {
                "loop_stage": "train",
                # A resumed run has those of the latest iteration, which a validation that comes next may read.
                "epoch": hub.get_info("epoch", runner.epoch),
                "iter": hub.get_info("iter", runner.iter),
                "max_epochs": runner.max_epochs,
                "max_iters": runner.max_iters,
            }
        )
        metainfo = metainfo_of(runner.train_loop.dataloader)
        if metainfo is not None:
            hub.update_info("dataset_meta", dict(metainfo))
        self._loop = runner.train_loop
        self._last_row = runner.completed._replace(iter=runner.history.last_iter)
        self._rates = _find_rates(runner.optim_wrapper)
        self._rate_scalars = [(hub.scalar(f"train/{name}"), settings) for name, settings in self._rates.items()]
        self._losses = {}

    def before_train_epoch(self, runner: Run) -> None:
        """Records the epoch. In iteration-based training, the next iteration does."""
        if runner.by_epoch:
            runner.message_hub.update_info("epoch", runner.epoch)

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Records the epoch, the iteration and the current learning rates."""
        runner.message_hub.runtime_info.update(epoch=self._loop.epoch, iter=runner.iter)
        starts_row = batch_idx == 0 if self._loop.by_epoch else runner.iter == self._last_row.iter
        if starts_row:
            for scalar in runner.message_hub.scalars_of("train").values():
                scalar.start_row()
        for scalar, settings in self._rate_scalars:
            scalar.append(settings["lr"])

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Records the losses without copying them from the device."""
        if outputs is not None and not isinstance(outputs, Mapping):
            raise ArgumentError("train_step must return a dict of values to log", found=outputs)
        marked = outputs.marked if isinstance(outputs, LoggedValues) else {}
        for name, value in (outputs or {}).items():
            if name in self._losses and name not in marked:
                self._losses[name].append(value)
                continue
            key = f"train/{recorded_name(name, frozenset(self._rates))}"
            runner.message_hub.update_scalar(key, marked.get(name, value))  # checks that it is a number
            self._losses[name] = runner.message_hub.scalar(key)
            self._losses[name].averages_ranks = get_world_size() > 1
        iteration = runner.iter + 1  # the same as `completed.iter`, which takes longer
        if iteration % _AVERAGING_INTERVAL == 0:  # in case log lines are less frequent or disabled
            average_over_ranks(runner.message_hub.log_scalars)
        loop = self._loop  # in epoch-based training, `after_train_epoch` adds the row
        if not loop.by_epoch and (iteration % loop.val_interval == 0 or iteration == loop.max_iters):
            self._add_row(runner)

    def after_train_epoch(self, runner: Run) -> None:
        """Adds the losses to the run's history."""
        self._add_row(runner)

    def _add_row(self, runner: Run) -> None:
        """Adds a row for the current position, unless it exists.

        If a row was added after an epoch's last iteration, but before the epoch was complete, updates that row.
        """
        if runner.completed == self._last_row:
            return
        iteration, epoch = self._last_row = runner.completed
        average_over_ranks(runner.message_hub.log_scalars)
        row = {}
        for name, scalar in runner.message_hub.scalars_of("train").items():
            if name not in _TIMES and scalar.weight("row"):
                row[name] = scalar.current() if name in self._rates else scalar.reduce("row")
        runner.history.add(epoch, iteration, row)

    def before_val(self, runner: Run) -> None:
        """Sets the loop stage to "val", and separates the metrics of this validation run from older ones."""
        _begin_evaluation(runner, "val")

    def after_val(self, runner: Run) -> None:
        """Sets the loop stage to "train"."""
        runner.message_hub.update_info("loop_stage", "train")

    def after_val_epoch(self, runner: Run, metrics: dict[str, float] | None = None) -> None:
        """Records the metrics, and adds them to the row of the current iteration in the run's history."""
        self._record(runner, "val", metrics)
        if runner.activity.is_training:
            runner.history.known_metrics.update(metrics or ())
            self._add_row(runner)
        if records_validation(runner):
            numbers = {f"val/{name}": value for name, value in numbers_in(metrics or {}).items()}
            iteration, epoch = runner.completed
            runner.history.add(epoch, iteration, numbers)

    def before_test(self, runner: Run) -> None:
        """Sets the loop stage to "test", and separates the metrics of this test run from older ones."""
        _begin_evaluation(runner, "test")

    def after_test_epoch(self, runner: Run, metrics: dict[str, float] | None = None) -> None:
        """Records the metrics."""
        self._record(runner, "test", metrics)

    def _record(self, runner: Run, mode: str, metrics: Mapping[str, Any] | None) -> None:
        hub = runner.message_hub
        metrics = metrics or {}
        numbers = numbers_in(metrics)
        for name, value in metrics.items():
            key = f"{mode}/{recorded_name(name)}"
            if name in numbers:
                hub.update_scalar(key, numbers[name])
            else:
                hub.update_info(key, value)


def _begin_evaluation(runner: Run, mode: str) -> None:
    hub = runner.message_hub
    hub.update_info("loop_stage", mode)
    for key in [key for key in hub.runtime_info if key.startswith(f"{mode}/")]:
        hub.pop_info(key)
    for scalar in hub.scalars_of(mode).values():
        scalar.mark()


def _find_rates(optim_wrapper: Any) -> dict[str, dict[str, Any]]:
    """Returns the dicts whose entry `lr` is a learning rate, keyed by the rate's name in logs.

    `lr` is that of the first parameter group with trainable parameters. `base_lr`, as in MMEngine, is that of the
    optimizer's config if `paramwise_cfg` is set. Otherwise, each further group with another rate is logged as
    `lr_<name>` if the group has a `name`, and else as `lr_group<index>`.
    """
    rates = {}
    for part, wrapper in optim_wrapper.parts.items():
        groups = wrapper.param_groups
        indices = [
            index
            for index, group in enumerate(groups)
            if any(parameter.requires_grad for parameter in group.get("params", ()))
        ]
        first, *others = indices or [0]
        base = getattr(wrapper, "base_param_settings", None) or {}
        sources = {"lr": groups[first], "base_lr": base}
        seen = {groups[first].get("lr")}
        for index in [] if base else others:
            group = groups[index]
            if group.get("lr") not in seen and len(seen) <= _MAX_RATES:
                seen.add(group["lr"])
                sources[f"lr_{group.get('name', f'group{index}')}"] = group
        for name, settings in sources.items():
            if settings.get("lr") is not None:
                rates[f"{part}.{name}" if part else name] = settings
    return rates


@HOOKS.register_module()
class IterTimerHook(Hook):
    """Records `<mode>/time` and `<mode>/data_time` for each iteration, in seconds.

    `train/data_time` is the time spent waiting for a batch. In validation, and in training loops that read their
    batches themselves, `data_time` also includes the hooks that run after this one.

    Logs a warning when training has spent more than a minute, and most of its time, waiting for data.
    """

    # Class attributes, because subclasses in published code may not call `__init__`.
    _waited = _trained = 0.0  # seconds in this process; the first wait, which starts workers, is not counted
    _is_first = True
    _has_warned = False

    def __init__(self) -> None:
        self._since = self._val_since = time.perf_counter()

    def _before_epoch(self, runner: Run, mode: str = "train") -> None:
        self._since = time.perf_counter()

    def _before_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, mode: str = "train") -> None:
        waited = data_wait.take_seconds() if mode == "train" else 0.0
        if not waited:  # not measured
            waited = time.perf_counter() - self._since
        elif not self._is_first:
            self._waited += waited
        runner.message_hub.scalar(f"{mode}/data_time").append(waited)

    def _after_iter(
        self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
    ) -> None:
        now = time.perf_counter()
        seconds = now - self._since
        self._since = now
        runner.message_hub.scalar(f"{mode}/time").append(seconds)
        if mode == "train":
            self._is_first = False
            self._trained += seconds
            if self._waited > max(_LONG_WAIT, self._trained / 2) and not self._has_warned:
                self._has_warned = True
                _logger.warning(
                    "Training has spent %.0f %% of its time waiting for data. To speed it up, increase num_workers in "
                    "train_dataloader or simplify the pipeline.",
                    100 * self._waited / self._trained,
                )

    def before_val(self, runner: Run) -> None:
        """Starts timing the validation."""
        self._val_since = time.perf_counter()

    def after_val(self, runner: Run) -> None:
        """Records how long validation took, and excludes it from the duration of the next training iteration."""
        self._since = time.perf_counter()
        runner.message_hub.update_info("val_seconds", self._since - self._val_since, resumed=False)
