"""Validates, tests and saves with the averaged weights of schedule-free optimizers."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from footplate.distributed import unwrap_model
from footplate.distributed.sharding import is_sharded
from footplate.engine import Hook, Runner
from footplate.errors import ArgumentError, CheckpointError
from footplate.optim.optimizers import is_schedule_free
from footplate.optim.schedules import ReduceOnPlateau
from footplate.registry import HOOKS

_STATE = "ema_state_dict"
_logger = logging.getLogger("footplate.hooks")


@HOOKS.register_module()
class ScheduleFreeHook(Hook):
    """Switches schedule-free optimizers between their training weights and their averaged weights.

    Added automatically if an optimizer is schedule-free. In a checkpoint, `state_dict` holds the averaged weights and
    `ema_state_dict` the weights with which training resumes.

    Source: The Road Less Scheduled (Defazio et al., 2024).
    """

    priority = "NORMAL"
    swaps_weights = True

    def __init__(self) -> None:
        self._training_weights: list[Tensor] | None = None  # while the model has the averaged weights

    def before_train(self, runner: Runner) -> None:
        """Checks the run, and switches to the training weights.

        Raises:
            ArgumentError: The model is sharded, or a schedule is not a warm-up.
        """
        model = unwrap_model(runner.model)
        if is_sharded(model):
            raise ArgumentError("schedule-free optimizers do not support sharded models", key="model_wrapper_cfg")
        _check_schedules(runner)
        if any(isinstance(module, _BatchNorm) for module in model.modules()):
            _logger.warning(
                "The statistics of batch normalization layers belong to the training weights, not to the averaged "
                "weights of the schedule-free optimizer. Use a different normalization layer, or compute them again."
            )
        for optimizer in _optimizers(runner):
            optimizer.train()

    def before_val_epoch(self, runner: Runner) -> None:
        """Switches to the averaged weights."""
        self._use_average(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Switches to the training weights."""
        self._use_training_weights(runner)

    def before_test_epoch(self, runner: Runner) -> None:
        """Switches to the averaged weights."""
        self._use_average(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Switches to the training weights."""
        self._use_training_weights(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Saves the averaged weights as the model's weights, and the training weights separately."""
        is_validating = self._training_weights is not None
        self._use_training_weights(runner)
        training = _weights(runner)
        self._use_average(runner)
        checkpoint["state_dict"] = _weights(runner)
        checkpoint[_STATE] = {f"module.{name}": value for name, value in training.items()}
        if not is_validating:
            self._use_training_weights(runner)
        saved = checkpoint.get("optimizer", {})
        for name in runner.optim_wrapper.parts if saved else ():
            for group in (saved[name] if name else saved)["param_groups"]:
                if "train_mode" in group:
                    group["train_mode"] = True

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restores the training weights of a resumed run."""
        saved, average = checkpoint.get(_STATE), checkpoint.get("state_dict")
        if saved is None or not runner.resuming:
            return
        if not isinstance(saved, Mapping) or not isinstance(average, Mapping):
            raise CheckpointError(f"'{_STATE}' and 'state_dict' of the checkpoint must be dicts")
        if missing := [name for name in average if f"module.{name}" not in saved]:
            raise CheckpointError(
                f"the '{_STATE}' of the checkpoint does not contain all weights of the model", found=missing[0]
            )
        checkpoint["state_dict"] = {name: saved[f"module.{name}"] for name in average}
        del checkpoint[_STATE]  # shows that a hook has restored it

    def _use_average(self, runner: Runner) -> None:
        if self._training_weights is None:
            self._training_weights = [each.detach().clone() for each in _parameters(runner)]
            for optimizer in _optimizers(runner):
                optimizer.eval()

    @torch.no_grad()
    def _use_training_weights(self, runner: Runner) -> None:
        if self._training_weights is not None:
            for optimizer in _optimizers(runner):
                optimizer.train()
            # `train` computes them from the average, which rounds.
            for parameter, value in zip(_parameters(runner), self._training_weights, strict=True):
                parameter.copy_(value)
            self._training_weights = None


def _optimizers(runner: Runner) -> list[Any]:
    optimizers = (each.optimizer for each in runner.optim_wrapper.parts.values())
    return [each for each in optimizers if is_schedule_free(each)]


def _parameters(runner: Runner) -> list[Tensor]:
    return [each for optimizer in _optimizers(runner) for group in optimizer.param_groups for each in group["params"]]


def _weights(runner: Runner) -> dict[str, Any]:
    state = unwrap_model(runner.model).state_dict()
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}


def _check_schedules(runner: Runner) -> None:
    schedules = runner.param_schedulers
    named = schedules if isinstance(schedules, Mapping) else {"": schedules}
    for name, several in named.items():
        if not is_schedule_free(runner.optim_wrapper.parts[name].optimizer):
            continue
        for each in several:
            curve = getattr(each, "curve", None)
            is_plateau = isinstance(each, ReduceOnPlateau)
            if curve is None or is_plateau or each.param_name != "lr" or not curve.ends_at_base():
                raise ArgumentError(
                    "a schedule-free optimizer supports no schedule except a warm-up",
                    key="param_scheduler",
                    found=type(each).__name__,
                    notes=["Remove the schedule. For a warm-up, use LinearLR, or `warmup_steps` of the optimizer."],
                )
