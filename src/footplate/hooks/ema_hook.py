"""Averages the weights during training, and validates, tests and saves with the average."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from footplate.checks import check_count
from footplate.distributed import unwrap_model
from footplate.engine import Hook, Runner
from footplate.engine.ineffective_settings import Reach
from footplate.errors import ArgumentError, CheckpointError, FootplateError, UnknownNameError
from footplate.models import BaseAveragedModel
from footplate.registry import HOOKS, MODELS

AVERAGED_STATE = "ema_state_dict"


class AveragedWeightsHook(Hook):
    """The base class of hooks that validate, test and save with averaged weights.

    In a checkpoint, `state_dict` holds the average and `ema_state_dict` the weights with which training resumes.
    """

    priority = "NORMAL"
    swaps_weights = True

    def _swap(self, runner: Runner, *, to_average: bool) -> None:
        """Switches the model to its averaged or its training weights. Does nothing if it already uses them."""
        raise NotImplementedError

    def before_val_epoch(self, runner: Runner) -> None:
        """Switches to the averaged weights."""
        self._swap(runner, to_average=True)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Switches to the training weights."""
        self._swap(runner, to_average=False)

    def before_test_epoch(self, runner: Runner) -> None:
        """Switches to the averaged weights."""
        self._swap(runner, to_average=True)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Switches to the training weights."""
        self._swap(runner, to_average=False)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restores the training weights of a resumed run."""
        saved, average = checkpoint.get(AVERAGED_STATE), checkpoint.get("state_dict")
        if saved is None or not runner.resuming:
            return
        if not isinstance(saved, Mapping) or not isinstance(average, Mapping):
            raise CheckpointError(f"'{AVERAGED_STATE}' and 'state_dict' in the checkpoint must be dicts")
        if missing := [name for name in average if f"module.{name}" not in saved]:
            raise CheckpointError(
                f"the '{AVERAGED_STATE}' in the checkpoint does not contain all weights of the model", found=missing[0]
            )
        checkpoint["state_dict"] = {name: saved[f"module.{name}"] for name in average}
        del checkpoint[AVERAGED_STATE]  # shows that a hook has restored it


@HOOKS.register_module()
class EMAHook(AveragedWeightsHook):
    """Averages the weights of the model during training, and validates, tests and saves with the average.

    In a checkpoint, `state_dict` holds the average and `ema_state_dict` the weights with which training resumes.

    Args:
        ema_type: The type of average: ExponentialMovingAverage, StochasticWeightAverage, MomentumAnnealingEMA,
            WarmUpEMA, or another averaged model that is registered in MODELS.
        strict_load: Whether a loaded checkpoint must contain every key of the averaged model.
        begin_iter: The iteration at which averaging begins. Before it, the average equals the model.
        begin_epoch: The epoch at which averaging begins.
        start_iters: An alias of `begin_iter`.
        settings: Arguments for the averaged model, such as `momentum`, `interval`, `update_buffers` and `device`. With
            `device="cpu"`, the average uses no accelerator memory.

    Raises:
        ArgumentError: The start of averaging is set twice or is negative, or an argument for the averaged model is
            invalid.
    """

    def __init__(
        self,
        ema_type: str = "ExponentialMovingAverage",
        strict_load: bool = False,
        begin_iter: int = 0,
        begin_epoch: int = 0,
        start_iters: int = 0,
        **settings: Any,
    ) -> None:
        begins = {
            "begin_iter": check_count("begin_iter", begin_iter, least=0),
            "begin_epoch": check_count("begin_epoch", begin_epoch, least=0),
            "start_iters": check_count("start_iters", start_iters, least=0),
        }
        given = [name for name, value in begins.items() if value]
        if len(given) > 1:
            raise ArgumentError(f"only one of {', '.join(given)} may be set", key=given[0], found=begins[given[0]])
        self.strict_load = strict_load
        self.begin_iter, self.begin_epoch = begin_iter or start_iters, begin_epoch
        self._cfg = {"type": ema_type, **settings}
        self._averaged(nn.Identity())  # checks the arguments now, not when the run has begun
        if "device" in settings and torch.empty(0, device=settings["device"]).device.type == "meta":
            raise ArgumentError("the average cannot be on the meta device", key="device", found="meta")
        self._loaded: Mapping[str, Any] | None = None
        self.ema_model: BaseAveragedModel | None = None
        self._swapped = False

    def idle_settings(self, reach: Reach) -> Iterator[tuple[str, str]]:
        """Yields `begin_iter` or `begin_epoch` if the run ends before averaging begins."""
        for name, begin, length, unit in (
            ("begin_iter", self.begin_iter, reach.iters, "iterations"),
            ("begin_epoch", self.begin_epoch, reach.epochs, "epochs"),
        ):
            if length is not None and begin >= length:
                yield name, f"the run ends after {length} {unit}, so nothing is averaged"

    def before_run(self, runner: Runner) -> None:
        """Builds the averaged model and loads its saved state. If the model already exists, it is reused."""
        self._model = unwrap_model(runner.model)
        if self.ema_model is not None and self._loaded is None:
            return
        average = self._averaged(self._model)
        if self._loaded is not None:
            try:
                average.load_state_dict(self._loaded, strict=self.strict_load)
            except FootplateError:
                raise
            except Exception as error:  # the state of a checkpoint may have any form
                raise CheckpointError(
                    f"the '{AVERAGED_STATE}' in the checkpoint does not match the model: {error}"
                ) from error
            self._loaded = None
        self.ema_model = average

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Updates the average."""
        if self.ema_model is None:
            return
        # The epoch is compared only if it is needed, because computing it takes time.
        if runner.iter + 1 >= self.begin_iter and (not self.begin_epoch or runner.epoch + 1 >= self.begin_epoch):
            self.ema_model.update_parameters(self._model)
        else:
            self.ema_model.copy_from(self._model)

    def _swap(self, runner: Runner, *, to_average: bool) -> None:
        """Swaps the model's weights with their average, or swaps them back."""
        if self._swapped != to_average:
            self._swap_ema_parameters()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Saves the average as the model's weights, and the training weights separately."""
        if self.ema_model is None:
            return
        average = self.ema_model.state_dict()
        if self._swapped:
            checkpoint[AVERAGED_STATE] = average
            return
        weights = checkpoint["state_dict"]
        checkpoint[AVERAGED_STATE] = {**average, **{f"module.{name}": value for name, value in weights.items()}}
        checkpoint["state_dict"] = {name: average[f"module.{name}"] for name in weights}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restores the training weights and the average of a resumed run."""
        saved, average = checkpoint.get(AVERAGED_STATE), checkpoint.get("state_dict")
        super().after_load_checkpoint(runner, checkpoint)
        if saved is not None and average is not None and runner.resuming:
            self._loaded = {**saved, **{f"module.{name}": value for name, value in average.items()}}

    def _averaged(self, model: nn.Module) -> BaseAveragedModel:
        try:
            average = MODELS.build(self._cfg, model=model)
        except UnknownNameError as error:
            error.key = "ema_type"
            raise
        if not isinstance(average, BaseAveragedModel):
            raise ArgumentError(
                "ema_type must be a subclass of BaseAveragedModel", key="ema_type", found=self._cfg["type"]
            )
        return average

    # Subclasses in user code call these. They may override after_load_checkpoint and expect the average to exist there.

    @property
    def src_model(self) -> nn.Module:
        """The model whose weights are averaged."""
        return self._model

    def _swap_ema_parameters(self) -> None:
        if self.ema_model is not None:
            self.ema_model.swap_with(self._model)
            self._swapped = not self._swapped

    def _swap_ema_state_dict(self, checkpoint: dict[str, Any]) -> None:
        weights, average = checkpoint["state_dict"], checkpoint[AVERAGED_STATE]
        for name in weights:
            key = f"module.{name}"
            weights[name], average[key] = average[key], weights[name]

    def listeners(self) -> dict[str, Callable[..., Any]]:
        """Returns the method to call for each event; see `Hook.listeners`."""
        methods = super().listeners()
        load = methods["after_load_checkpoint"]

        def load_as_subclass(runner: Runner, checkpoint: dict[str, Any]) -> None:
            self._model = unwrap_model(runner.model)
            average = self.ema_model = self.ema_model or self._averaged(self._model)
            load(runner, checkpoint=checkpoint)
            if runner.resuming:
                checkpoint.pop(AVERAGED_STATE, None)  # shows that a hook has restored it
                return
            averaged, weights = average.state_dict(), self._model.state_dict()
            pairs = [(averaged[f"module.{name}"], value) for name, value in weights.items()]
            if all(torch.equal(mean, value.to(mean.device)) for mean, value in pairs):
                self.ema_model = None  # nothing was loaded into it, so it is built again from the loaded weights

        if type(self).after_load_checkpoint is not EMAHook.after_load_checkpoint:
            methods["after_load_checkpoint"] = load_as_subclass
        return methods
