"""Hooks that record learning rates, losses, metrics, times and gradient norms in the message hub."""

import math
import re
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from footplate.checks import check_count, check_pattern
from footplate.distributed import unwrap_model
from footplate.distributed.sharding import tensor_norms
from footplate.engine import Hook, Runner
from footplate.engine.idle_settings import RunExtent
from footplate.errors import ArgumentError
from footplate.module_selection import nearest_prefix
from footplate.records import HistoryBuffer, ScalarNames, average_over_ranks, numbers_in
from footplate.registry import HOOKS

_AVERAGING_INTERVAL = 1000  # iterations; bounds the number of values that ranks exchange
_TIMES = ("time", "data_time")  # a history contains only what a resumed run repeats exactly


@HOOKS.register_module()
class RuntimeInfoHook(Hook):
    """Records the position, the learning rates, the losses and the metrics in the message hub.

    Infos: `epoch`, `iter`, `max_epochs`, `max_iters`, `seed`, `experiment_name`, `cfg`, `dataset_meta`. Scalars:
    `train/lr` and other rates, `train/<loss>`, `val/<metric>`, `test/<metric>`. A loss or metric whose name is reserved
    for the log, such as `lr` or `time`, is recorded as `<name>_of_model`. With several processes, losses are replaced
    with means over the processes when they are logged or saved; until then, a history contains those of this process.
    The `history` of the runner gets a row for each epoch, or for each validation interval when training by iterations.
    """

    priority = "VERY_HIGH"

    @cached_property  # a user's subclass may not call `__init__`
    def _names(self) -> ScalarNames:
        return ScalarNames()

    def before_run(self, runner: Runner) -> None:
        """Records the config, the seed and the name of the experiment."""
        runner.message_hub.update_info_dict(
            {
                "cfg": getattr(runner.cfg, "pretty_text", ""),
                "seed": runner.seed,
                "experiment_name": runner.experiment_name,
            },
            resumed=False,
        )

    def before_train(self, runner: Runner) -> None:
        """Records the length of the run, and determines what each iteration will record."""
        hub = runner.message_hub
        hub.update_info_dict(
            {
                "loop_stage": "train",
                "epoch": runner.epoch,
                "iter": runner.iter,
                "max_epochs": runner.max_epochs,
                "max_iters": runner.max_iters,
            }
        )
        metainfo = getattr(getattr(runner.train_dataloader, "dataset", None), "metainfo", None)
        if metainfo is not None:
            hub.update_info("dataset_meta", dict(metainfo))
        self._infos, self._loop = hub.runtime_info, runner.train_loop
        self._by_epoch, self._max_iters = runner.by_epoch, runner.max_iters
        sources = [each for each in _rate_sources(runner.optim_wrapper) if each[1].get(each[2]) is not None]
        self._rates = [(hub.history(f"train/{name}"), values, key) for name, values, key in sources]
        self._rate_names = [name for name, _, _ in sources]
        self._losses: dict[str, HistoryBuffer] = {}
        self._has_ranks = runner.world_size > 1

    def before_train_epoch(self, runner: Runner) -> None:
        """Records the epoch."""
        runner.message_hub.update_info("epoch", runner.epoch)
        if runner.train_loop.at_epoch_start:
            for key, history in runner.message_hub.log_scalars.items():
                if key.startswith("train/"):
                    history.start_epoch()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Records the iteration and the current learning rates."""
        self._infos["iter"] = self._loop.iter
        for history, group, key in self._rates:
            history.append(group[key])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Records the losses without copying them from the device."""
        histories = self._losses
        if not histories and outputs is not None and not isinstance(outputs, Mapping):
            raise ArgumentError("train_step must return a dict of the values to log", found=outputs)
        for name, value in (outputs or {}).items():
            if name not in histories:
                key = f"train/{self._names.name_of('train', name, self._rate_names)}"
                runner.message_hub.update_scalar(key, value)  # checks that it is a number
                histories[name] = runner.message_hub.history(key)
                histories[name].averages_ranks = self._has_ranks
            else:
                histories[name].append(value)
        done = self._infos["iter"] + 1
        if self._has_ranks and done % _AVERAGING_INTERVAL == 0:  # in case no log line does it
            average_over_ranks(runner.message_hub.log_scalars)
        if not self._by_epoch and (done % self._loop.val_interval == 0 or done == self._max_iters):
            self._add_row(runner, self._loop.epoch, done)

    def after_train_epoch(self, runner: Runner) -> None:
        """Adds a row to the history of the run."""
        if runner.iter > runner.history.last_iter:
            self._add_row(runner, runner.epoch + self._by_epoch, runner.iter)

    def _add_row(self, runner: Runner, epoch: int, done: int) -> None:
        average_over_ranks(runner.message_hub.log_scalars)
        window = "epoch" if self._by_epoch else done - runner.history.last_iter
        scalars = {}
        for key, history in runner.message_hub.log_scalars.items():
            mode, _, name = key.partition("/")
            if mode == "train" and name not in _TIMES:
                scalars[name] = history.current() if name in self._rate_names else history.mean(window)
        runner.history.add(epoch, done, scalars)

    def before_val(self, runner: Runner) -> None:
        """Records "val" as the loop stage, and marks where the scalars of this validation begin."""
        _begin_evaluation(runner, "val")

    def after_val(self, runner: Runner) -> None:
        """Records "train" as the loop stage."""
        runner.message_hub.update_info("loop_stage", "train")

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Records the metrics."""
        self._record(runner, "val", metrics)
        numbers = {f"val/{name}": value for name, value in numbers_in(metrics or {}).items()}
        runner.history.add(runner.epoch, runner.iter, numbers)

    def before_test(self, runner: Runner) -> None:
        """Records "test" as the loop stage, and marks where the scalars of this test begin."""
        _begin_evaluation(runner, "test")

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Records the metrics."""
        self._record(runner, "test", metrics)

    def _record(self, runner: Runner, mode: str, metrics: Mapping[str, Any] | None) -> None:
        for name, value in (metrics or {}).items():
            key = f"{mode}/{self._names.name_of(mode, name)}"
            is_number = isinstance(value, (int, float, np.number, np.ndarray, Tensor))
            if is_number and math.prod(getattr(value, "shape", ())) == 1:
                runner.message_hub.update_scalar(key, value)
            else:
                runner.message_hub.update_info(key, value)


def _begin_evaluation(runner: Runner, mode: str) -> None:
    runner.message_hub.update_info("loop_stage", mode)
    for key, history in runner.message_hub.log_scalars.items():
        if key.startswith(f"{mode}/"):
            history.mark()


def _rate_sources(optim_wrapper: Any) -> list[tuple[str, Any, str]]:
    """Returns, for each optimizer, the log name, the first trainable parameter group, and the key of the rate."""
    if isinstance(optim_wrapper, Mapping) or hasattr(optim_wrapper, "optim_wrappers"):
        return [
            (f"{name}.{rate}", group, key)
            for name, each in optim_wrapper.items()
            for rate, group, key in _rate_sources(each)
        ]
    groups = optim_wrapper.param_groups
    trainable = (group for group in groups if any(each.requires_grad for each in group.get("params", ())))
    found = [("lr", next(trainable, groups[0]), "lr")]
    base = getattr(optim_wrapper, "base_param_settings", None)
    return [*found, ("base_lr", base, "lr")] if base is not None else found


@HOOKS.register_module()
class IterTimerHook(Hook):
    """Records `<mode>/time` and `<mode>/data_time` of each iteration, in seconds."""

    priority = "NORMAL"

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def before_train(self, runner: Runner) -> None:
        """Looks up the histories of the training times once, rather than in every iteration."""
        hub = runner.message_hub
        self._train_time, self._train_data_time = hub.history("train/time"), hub.history("train/data_time")

    def _before_epoch(self, runner: Runner, mode: str = "train") -> None:
        self._since = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Records the time that the iteration waited for its batch."""
        self._train_data_time.append(time.perf_counter() - self._since)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Records the duration of the iteration, including the wait."""
        now = time.perf_counter()
        self._train_time.append(now - self._since)
        self._since = now

    def _before_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = "train") -> None:
        runner.message_hub.history(f"{mode}/data_time").append(time.perf_counter() - self._since)

    def _after_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
    ) -> None:
        now = time.perf_counter()
        runner.message_hub.history(f"{mode}/time").append(now - self._since)
        self._since = now

    def after_val(self, runner: Runner) -> None:
        """Excludes validation from the duration of the next training iteration."""
        self._since = time.perf_counter()


@HOOKS.register_module()
class GradientNormHook(Hook):
    """Records the L2 norm of the gradients of each group of modules, as `train/grad_norm/<group>`.

    It measures the gradients that the optimizer uses: accumulated, unscaled, and clipped if clipping is enabled. Norms
    stay on the device until the log reads them. Iterations between two intervals have no extra cost.

    Args:
        interval: The number of iterations between two measured steps.
        groups: Maps the name of each group to a regular expression that matches the start of its parameters' names. By
            default, each child of the model is a group.

    Raises:
        ArgumentError: `interval` is not a positive integer, or the pattern of a group is not a regular expression. Also
            raised when training begins, if a group has no parameter.
    """

    priority = "VERY_HIGH"

    def __init__(self, interval: int = 50, groups: Mapping[str, str] | None = None) -> None:
        self.interval = check_count("interval", interval)
        self.groups = dict(groups or {})
        for group, pattern in self.groups.items():
            check_pattern(pattern, key=f"groups.{group}")
        self._members: dict[str, list[Tensor]] = {}
        self._handles: list[Any] = []
        self._squares: dict[str, Tensor] = {}

    def idle_settings(self, extent: RunExtent) -> Iterator[tuple[str, str]]:
        """Yields `interval` if the run has fewer iterations than that."""
        if extent.iters is not None and self.interval > extent.iters:
            yield "interval", f"the run ends after {extent.iters} iterations, so no norm is measured"

    def before_train(self, runner: Runner) -> None:
        """Assigns the parameters to groups."""
        named = list(unwrap_model(runner.model).named_parameters())  # includes frozen ones, which may be unfrozen
        children = dict.fromkeys(name.partition(".")[0] for name, _ in named)
        groups = self.groups or {child: rf"{re.escape(child)}(\.|$)" for child in children}
        self._members = {
            group: [each for name, each in named if re.match(pattern, name)] for group, pattern in groups.items()
        }
        for group, members in self._members.items():
            if not members:
                pattern, names = self.groups[group], [name for name, _ in named]
                raise ArgumentError(
                    f"no parameter name begins with '{pattern}'",
                    key=f"groups.{group}",
                    suggestion=nearest_prefix(pattern, names),
                )
        self._histories = {group: runner.message_hub.history(f"train/grad_norm/{group}") for group in groups}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Starts measuring the norms in the last iteration of each interval."""
        if (runner.iter + 1) % self.interval == 0 and not self._handles:
            self._handles = [
                each.optimizer.register_step_pre_hook(self._measure) for each in runner.optim_wrapper.parts.values()
            ]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Records the norms after an optimizer step, and stops measuring."""
        if not self._squares:
            return
        for group, square in self._squares.items():
            self._histories[group].append(square.sqrt())
        self._squares = {}
        self.after_train(runner)

    def after_train(self, runner: Runner) -> None:
        """Stops measuring."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @torch.no_grad()
    def _measure(self, optimizer: Optimizer, *_: Any) -> None:
        own = {id(each) for group in optimizer.param_groups for each in group["params"]}
        scale = getattr(optimizer, "grad_scale", None)  # set if the optimizer's kernel unscales by itself
        for group, members in self._members.items():
            found = [each.grad for each in members if each.grad is not None and id(each) in own]
            gradients = [each.coalesce().values() if each.is_sparse else each for each in found]
            if not gradients:
                continue
            norm = torch.linalg.vector_norm(tensor_norms(gradients).float())
            square = (norm if scale is None else norm / scale) ** 2
            self._squares[group] = self._squares[group] + square if group in self._squares else square
