"""Validates, tests and saves with the averaged weights of schedule-free optimizers."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from footplate.distributed import unwrap_model
from footplate.distributed.sharding import is_sharded
from footplate.engine import Runner
from footplate.errors import ArgumentError
from footplate.hooks.ema_hook import AVERAGED_STATE, AveragedWeightsHook
from footplate.optim.optimizer_builder import is_schedule_free
from footplate.optim.schedules import ReduceOnPlateau
from footplate.registry import HOOKS

_logger = logging.getLogger("footplate.hooks")


@HOOKS.register_module()
class ScheduleFreeHook(AveragedWeightsHook):
    """Switches schedule-free optimizers between their training weights and their averaged weights.

    A run with such an optimizer adds this hook automatically. In a checkpoint, `state_dict` holds the averaged weights
    and `ema_state_dict` the weights with which training resumes.

    Source: The Road Less Scheduled (Defazio et al., 2024).
    """

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
        schedules = runner.param_schedulers
        named = schedules if isinstance(schedules, Mapping) else {"": schedules}
        free = [name for name in named if is_schedule_free(runner.optim_wrapper.parts[name].optimizer)]
        for each in (schedule for name in free for schedule in named[name]):
            curve = None if isinstance(each, ReduceOnPlateau) else getattr(each, "curve", None)
            if curve is None or each.param_name != "lr" or not curve.ends_at_base():
                raise ArgumentError(
                    "a schedule-free optimizer supports only warm-up schedules",
                    key="param_scheduler",
                    found=type(each).__name__,
                    notes=["Remove the schedule. For a warm-up, use LinearLR, or `warmup_steps` of the optimizer."],
                )
        if any(isinstance(module, _BatchNorm) for module in model.modules()):
            _logger.warning(
                "The statistics of batch normalization layers belong to the training weights, not to the averaged "
                "weights of the schedule-free optimizer. Use a different normalization layer, or recompute them."
            )
        for optimizer in _optimizers(runner):
            optimizer.train()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Saves the averaged weights as the model's weights, and the training weights separately."""
        is_validating = self._training_weights is not None
        self._swap(runner, to_average=False)
        training = _weights(runner)
        self._swap(runner, to_average=True)
        checkpoint["state_dict"] = _weights(runner)
        checkpoint[AVERAGED_STATE] = {f"module.{name}": value for name, value in training.items()}
        self._swap(runner, to_average=is_validating)
        saved = checkpoint.get("optimizer", {})
        for name in runner.optim_wrapper.parts if saved else ():
            for group in (saved[name] if name else saved)["param_groups"]:
                if "train_mode" in group:
                    group["train_mode"] = True

    @torch.no_grad()
    def _swap(self, runner: Runner, *, to_average: bool) -> None:
        """Switches the optimizers, and stores or restores the training weights."""
        optimizers = _optimizers(runner)
        parameters = [each for one in optimizers for group in one.param_groups for each in group["params"]]
        if to_average and self._training_weights is None:
            self._training_weights = [each.detach().clone() for each in parameters]
            for optimizer in optimizers:
                if optimizer.state:  # before the first step, there is no average
                    _switch_to_average(optimizer)
        elif not to_average and self._training_weights is not None:
            for optimizer in optimizers:
                optimizer.train()
            # `train` computes the training weights from the average, with rounding errors.
            for parameter, value in zip(parameters, self._training_weights, strict=True):
                parameter.copy_(value)
            self._training_weights = None


def _switch_to_average(optimizer: Any) -> None:
    try:
        optimizer.eval()
    except KeyError as error:
        name = type(optimizer).__name__
        raise ArgumentError(
            f"the optimizer {name} cannot average weights that it has not changed, such as frozen ones",
            key="optim_wrapper.optimizer.type",
            found=name,
            notes=["Use a different optimizer, such as ScheduleFreeAdamW."],
        ) from error


def _optimizers(runner: Runner) -> list[Any]:
    optimizers = (each.optimizer for each in runner.optim_wrapper.parts.values())
    return [each for each in optimizers if is_schedule_free(each)]


def _weights(runner: Runner) -> dict[str, Any]:
    state = unwrap_model(runner.model).state_dict()
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}
