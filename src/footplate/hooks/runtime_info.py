"""Keeps the message hub up to date with the state of the run."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from footplate.engine import Hook
from footplate.records import ScalarNames
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner
    from footplate.records import HistoryBuffer


@HOOKS.register_module()
class RuntimeInfoHook(Hook):
    """Records position, learning rates, losses and metrics in the message hub.

    Infos: `epoch`, `iter`, `max_epochs`, `max_iters`, `seed`, `experiment_name`, `cfg`, `dataset_meta`. Scalars:
    `train/lr` and other rates, `train/<loss>`, `val/<metric>`, `test/<metric>`. A loss or metric with a name that the
    log uses itself, such as `lr` or `time`, is recorded as `<name>_of_model`.
    """

    priority = "VERY_HIGH"

    @cached_property
    def _names(self) -> ScalarNames:
        return ScalarNames()

    def before_run(self, runner: "Runner") -> None:
        """Records the constant infos of the run."""
        runner.message_hub.update_info_dict(
            {
                "cfg": getattr(runner.cfg, "pretty_text", ""),
                "seed": runner.seed,
                "experiment_name": runner.experiment_name,
            },
            resumed=False,
        )

    def before_train(self, runner: "Runner") -> None:
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
        sources = [each for each in _rate_sources(runner.optim_wrapper) if each[1].get(each[2]) is not None]
        self._rates = [(hub.history(f"train/{name}"), values, key) for name, values, key in sources]
        self._rate_names = [name for name, _, _ in sources]
        self._losses: dict[str, HistoryBuffer] = {}

    def before_train_epoch(self, runner: "Runner") -> None:
        """Records the epoch."""
        runner.message_hub.update_info("epoch", runner.epoch)
        if runner.train_loop.at_epoch_start:
            for key, history in runner.message_hub.log_scalars.items():
                if key.startswith("train/"):
                    history.start_epoch()

    def before_train_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None) -> None:
        """Records the iteration and the current learning rates."""
        self._infos["iter"] = self._loop.iter
        for history, group, key in self._rates:
            history.append(group[key])

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Records the losses, which stay on the device."""
        histories = self._losses
        for name, value in (outputs or {}).items():
            if name not in histories:
                recorded = self._names.name_of("train", name, self._rate_names)
                histories[name] = runner.message_hub.history(f"train/{recorded}")
            histories[name].append(value)

    def before_val(self, runner: "Runner") -> None:
        """Records the stage, and marks the start of its scalars."""
        _begin(runner, "val")

    def after_val(self, runner: "Runner") -> None:
        """Records the stage."""
        runner.message_hub.update_info("loop_stage", "train")

    def after_val_epoch(self, runner: "Runner", metrics: dict[str, float] | None = None) -> None:
        """Records the metrics."""
        self._record(runner, "val", metrics)

    def before_test(self, runner: "Runner") -> None:
        """Records the stage, and marks the start of its scalars."""
        _begin(runner, "test")

    def after_test_epoch(self, runner: "Runner", metrics: dict[str, float] | None = None) -> None:
        """Records the metrics."""
        self._record(runner, "test", metrics)

    def _record(self, runner: "Runner", mode: str, metrics: Mapping[str, Any] | None) -> None:
        for name, value in (metrics or {}).items():
            key = f"{mode}/{self._names.name_of(mode, name)}"
            if _is_scalar(value):
                runner.message_hub.update_scalar(key, value)
            else:
                runner.message_hub.update_info(key, value)


def _begin(runner: "Runner", mode: str) -> None:
    runner.message_hub.update_info("loop_stage", mode)
    for key, history in runner.message_hub.log_scalars.items():
        if key.startswith(f"{mode}/"):
            history.mark()


def _is_scalar(value: Any) -> bool:
    if isinstance(value, (np.ndarray, np.number)):
        return value.size == 1
    return isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)


def _rate_sources(optim_wrapper: Any) -> list[tuple[str, Any, str]]:
    """Returns name, parameter group and key of each learning rate to record: that of each optimizer's first group."""
    if isinstance(optim_wrapper, Mapping) or hasattr(optim_wrapper, "optim_wrappers"):
        return [
            (f"{name}.{rate}", group, key)
            for name, each in optim_wrapper.items()
            for rate, group, key in _rate_sources(each)
        ]
    found = [("lr", optim_wrapper.param_groups[0], "lr")]
    base = getattr(optim_wrapper, "base_param_settings", None)
    return [*found, ("base_lr", base, "lr")] if base is not None else found
