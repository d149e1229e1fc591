"""Hooks that use averaged weights for validation, testing and saving: EMAHook and ScheduleFreeHook."""

import copy
import logging
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from footplate.data import length_of
from footplate.data.dataloader_checks import check_epochs_end
from footplate.distributed import unwrap_model
from footplate.distributed.sharding import is_sharded
from footplate.engine import Run, SwappingHook
from footplate.errors import ArgumentError, CheckpointError, UnknownNameError
from footplate.models import BaseAveragedModel, ExponentialMovingAverage
from footplate.module_selection import BATCH_NORMS
from footplate.optim.by_optimizer import by_optimizer, schedules_by_optimizer
from footplate.optim.optimizer_builder import is_schedule_free
from footplate.optim.schedules import ParamSchedule
from footplate.registry import HOOKS, MODELS

TRAINING_STATE = "ema_state_dict"  # MMEngine's key; despite its name, the value contains the training weights
_MAX_REST = 0.2  # warn if the initial weights make up more than this fraction of the final average
_logger = logging.getLogger("footplate.hooks")


class AveragedWeightsHook(SwappingHook):
    """Base class for hooks that use averaged weights for validation, testing and saving.

    In checkpoints, `state_dict` contains the averaged weights, and `ema_state_dict`, despite its name, contains the
    training weights.
    """

    def _swap(self, runner: Run, *, to_average: bool) -> None:
        """Switches the model to the averaged or the training weights. Does nothing if the model already has them."""
        raise NotImplementedError

    def before_val_epoch(self, runner: Run) -> None:
        """Switches to the averaged weights."""
        self._swap(runner, to_average=True)

    def after_val_epoch(self, runner: Run, metrics: dict[str, float] | None = None) -> None:
        """Switches to the training weights."""
        self._swap(runner, to_average=False)

    # A subclass that overrides the methods above does not change these two.
    before_test_epoch, after_test_epoch = before_val_epoch, after_val_epoch

    def restore_weights(self, runner: Run) -> None:
        """Switches to the training weights."""
        self._swap(runner, to_average=False)

    def after_load_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """If the run resumes, replaces the averaged weights in the checkpoint with the training weights."""
        if TRAINING_STATE not in checkpoint or not runner.activity.is_resuming:
            return
        average = checkpoint["state_dict"]
        training = checkpoint[TRAINING_STATE]
        if missing := [name for name in average if f"module.{name}" not in training]:
            raise CheckpointError(
                f"the '{TRAINING_STATE}' in the checkpoint lacks some of the model's weights, such as '{missing[0]}'"
            )
        checkpoint["state_dict"] = _with_values(average, {name: training[f"module.{name}"] for name in average})


@HOOKS.register_module()
class EMAHook(AveragedWeightsHook):
    """Averages the model's weights during training, and uses the average for validation, testing and saving.

    Args:
        ema_type: The averaging method: ExponentialMovingAverage (the default), MomentumAnnealingEMA,
            StochasticWeightAverage, WarmUpEMA, or another averaged model registered in MODELS. For a plain torch
            module, the default is MomentumAnnealingEMA, which suits runs of any length, unless `momentum` is set. The
            method's arguments, such as `momentum`, `interval`, `update_buffers` and `device`, can be set in the hook.
            If `ema_type` is changed when a run resumes, a new average starts.
        strict_load: Whether the averaged weights in a resumed checkpoint must have the same keys as the averaged model.
        begin_iter: The first iteration, counted from 1, after which the average is updated. Until then, it is a copy of
            the model. 0 means the first iteration.
        begin_epoch: The first epoch (from 1) in which the average is updated. Cannot be combined with `begin_iter`.
        start_iters: An alias for `begin_iter`.
        settings: Arguments for the averaged model. With `device="cpu"`, the average does not use GPU memory.

    Raises:
        ArgumentError: The start of averaging is set more than once, or an argument for the averaged model is invalid.
    """

    src_model: nn.Module  # the run's unwrapped model, set by `build_average`

    def __init__(
        self,
        ema_type: str | None = None,
        strict_load: bool = False,
        begin_iter: int = 0,
        begin_epoch: int = 0,
        start_iters: int = 0,
        **settings: Any,
    ) -> None:
        if "decay" in settings:
            raise ArgumentError(
                "EMAHook uses 'momentum' instead of 'decay'",
                key="decay",
                found=settings["decay"],
                notes=["Set momentum to 1 - decay, the weight given to new values."],
            )
        begins = {"begin_iter": begin_iter, "begin_epoch": begin_epoch, "start_iters": start_iters}
        if len(chosen := {name: value for name, value in begins.items() if value}) > 1:
            raise ArgumentError(f"only one of {', '.join(begins)} may be set", key=next(iter(chosen)), found=chosen)
        self.strict_load = strict_load
        self.begin_iter = begin_iter or start_iters
        self.begin_epoch = begin_epoch
        self._has_defaults = ema_type is None and "momentum" not in settings
        self._cfg = {"type": ema_type or "ExponentialMovingAverage", **settings}
        # Building it now checks the arguments before the run begins.
        self._type = type(self._averaged(nn.Identity())).__name__
        self.ema_model: BaseAveragedModel | None = None
        self._is_swapped = False

    @property
    def average(self) -> nn.Module | None:
        """The model with the averages; while the weights are swapped, with the training weights."""
        return None if self.ema_model is None else self.ema_model.module

    def before_run(self, runner: Run) -> None:
        """Builds the averaged model. If it has no updates yet, copies the model's current weights into it."""
        self.build_average(runner)
        self.reset_average(runner)

    def reset_average(self, runner: Run) -> None:
        """Copies the model's weights into the average, unless the average has been updated."""
        if self.ema_model is not None and self.ema_model.count == 0:
            self._start_average()

    def _start_average(self) -> None:
        self.ema_model.copy_from(self.src_model)  # type: ignore[union-attr]

    def before_train(self, runner: Run) -> None:
        """Resets the average if averaging has not begun. Warns if it never begins or stays mostly initial weights.

        Raises:
            ArgumentError: `begin_epoch` is set, but the sampler is endless.
        """
        dataloader = runner.train_loop.dataloader
        check_epochs_end(dataloader, "begin_epoch", self.begin_epoch if self.begin_epoch > 1 else None)
        begin = max(1, self.begin_iter, (self.begin_epoch - 1) * (length_of(dataloader) or 0) + 1)
        # In iteration-based training, another batch size changes `begin`.
        has_begun = self._has_begun(runner, runner.iter) and (not runner.by_epoch or runner.iter >= begin)
        if self.ema_model is not None and not has_begun:  # a resumed run may begin later than before
            self._start_average()
        if begin > runner.max_iters:
            runner.logger.warning(
                "EMAHook: averaging never begins, because training ends before it, so validation and checkpoints use "
                "the current weights. Set an earlier begin_epoch or begin_iter, or remove the hook."
            )
            return
        if type(self.ema_model) is not ExponentialMovingAverage:
            return
        updates = (runner.max_iters - begin + 1) / self.ema_model.interval
        rest = (1 - self.ema_model.momentum) ** updates
        if rest > _MAX_REST:
            runner.logger.warning(
                "EMAHook: at the end of this run, %.0f%% of the average will still be initial weights. "
                "Increase momentum=%g, for example to %.2g.",
                100 * rest,
                self.ema_model.momentum,
                min(5 / updates, 0.5),
            )

    def build_average(self, runner: Run) -> BaseAveragedModel:
        """Returns the averaged model. The first call builds it from the run's model."""
        self.src_model = unwrap_model(runner.model)
        if self.ema_model is None:
            if runner.is_plain and self._has_defaults:
                self._cfg["type"] = self._type = "MomentumAnnealingEMA"
            self.ema_model = self._averaged(self.src_model)
        return self.ema_model

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Updates the average or, before averaging begins, copies the model's weights into it."""
        if self.ema_model is None:
            return
        if self._has_begun(runner, runner.iter + 1):
            self.ema_model.update_parameters(self.src_model)
        else:
            self.ema_model.copy_from(self.src_model)

    def _has_begun(self, runner: Run, iterations: int) -> bool:
        """Checks whether the average is updated in the current epoch after a number of iterations."""
        # Check the epoch only if needed, because computing it takes time.
        return iterations >= max(1, self.begin_iter) and (not self.begin_epoch or runner.epoch + 1 >= self.begin_epoch)

    def _swap(self, runner: Run, *, to_average: bool) -> None:
        if self.ema_model is None or self._is_swapped == to_average:
            return
        self.ema_model.swap_with(self.src_model)
        self._is_swapped = to_average

    def before_save_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """Saves the averaged weights as the model's weights, and the training weights separately."""
        if self.ema_model is None:
            return
        others = self.ema_model.state_dict()  # the average or, while the weights are swapped, the training weights
        if self._is_swapped:
            checkpoint[TRAINING_STATE] = others
            return
        training = checkpoint["state_dict"]
        checkpoint["state_dict"] = _with_values(
            training, {name: others.get(f"module.{name}", value) for name, value in training.items()}
        )
        checkpoint[TRAINING_STATE] = _with_values(others, {f"module.{name}": training[name] for name in training})

    def after_load_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """Discards the average. If the run resumes, restores the training weights and the average."""
        if self.ema_model is not None:
            self.ema_model.count = 0
            self.ema_model.steps.zero_()
        if TRAINING_STATE not in checkpoint or not runner.activity.is_resuming:
            return
        average = checkpoint["state_dict"]
        super().after_load_checkpoint(runner, checkpoint)
        state = _with_values(checkpoint[TRAINING_STATE], {f"module.{name}": value for name, value in average.items()})
        try:
            self.build_average(runner).load_state_dict(state, strict=self.strict_load)
        except RuntimeError as error:
            raise CheckpointError(
                f"the '{TRAINING_STATE}' in the checkpoint does not match the model: {error}"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Returns the averaging method."""
        return {"ema_type": self._type}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Starts a new average from the training weights if the averaging method has changed."""
        if self.ema_model is not None and state["ema_type"] != self._type:
            _logger.warning(
                "EMAHook: the checkpoint was saved with ema_type '%s', and this run uses '%s'. Starting a new average "
                "from the training weights.",
                state["ema_type"],
                self._type,
            )
            self.ema_model.copy_from(self.src_model)

    def _averaged(self, model: nn.Module) -> BaseAveragedModel:
        try:
            return MODELS.build(self._cfg, model=model)  # type: ignore[no-any-return]
        except UnknownNameError as error:
            error.key = "ema_type"
            raise


@HOOKS.register_module()
class ScheduleFreeHook(AveragedWeightsHook):
    """Switches schedule-free optimizers between their training weights and their averaged weights.

    This hook is added automatically if a run uses a schedule-free optimizer.

    Source: The Road Less Scheduled (Defazio et al., 2024).
    """

    def __init__(self) -> None:
        self._training_weights: list[Tensor] | None = None  # set while the model has the averaged weights

    def before_train(self, runner: Run) -> None:
        """Checks that the run supports schedule-free optimizers, and switches to the training weights.

        Raises:
            ArgumentError: The model is sharded, or a schedule is not a warm-up.
        """
        model = unwrap_model(runner.model)
        if is_sharded(model):
            raise ArgumentError("schedule-free optimizers do not support sharded models", key="model_wrapper_cfg")
        schedules = schedules_by_optimizer(runner.param_schedulers)
        free = [name for name in schedules if is_schedule_free(runner.optim_wrapper.parts[name].optimizer)]
        for schedule in chain.from_iterable(schedules[name] for name in free):
            if (
                not isinstance(schedule, ParamSchedule)
                or schedule.param_name != "lr"
                or not schedule.curve.ends_at_base()
            ):
                raise ArgumentError(
                    "a schedule-free optimizer supports only warm-up schedules",
                    key="param_scheduler",
                    found=type(schedule).__name__,
                    notes=["Remove the schedule. For a warm-up, use LinearLR or the optimizer's `warmup_steps`."],
                )
        if any(isinstance(module, BATCH_NORMS) for module in model.modules()):
            _logger.warning(
                "The batch normalization statistics match the training weights, not the averaged "
                "weights of the schedule-free optimizer. Use a different normalization layer, or recompute the "
                "statistics."
            )
        for optimizer in _optimizers(runner):
            optimizer.train()

    def before_save_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """Saves the averaged weights as the model's weights, and the training weights separately."""
        is_validating = self._training_weights is not None
        self._swap(runner, to_average=False)
        training = _weights(runner)
        self._swap(runner, to_average=True)
        checkpoint["state_dict"] = _weights(runner)
        checkpoint[TRAINING_STATE] = {f"module.{name}": value for name, value in training.items()}
        self._swap(runner, to_average=is_validating)
        if "optimizer" in checkpoint:
            for state in by_optimizer(checkpoint["optimizer"], runner.optim_wrapper.parts).values():
                for group in state["param_groups"]:
                    if "train_mode" in group:
                        group["train_mode"] = True

    @torch.no_grad()
    def reset_average(self, runner: Run) -> None:
        """Resets both the averaged and the training weights to the model's current weights."""
        self._training_weights = None
        for optimizer in _optimizers(runner):
            for parameter, state in optimizer.state.items():
                if "z" in state:  # the average is computed from the parameter and `z`
                    state["z"].copy_(parameter)
            optimizer.train()

    @torch.no_grad()
    def _swap(self, runner: Run, *, to_average: bool) -> None:
        """Switches the optimizers between the two sets of weights, and stores or restores the training weights."""
        optimizers = _optimizers(runner)
        parameters = [
            parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]
        ]
        if to_average and self._training_weights is None:
            self._training_weights = [parameter.detach().clone() for parameter in parameters]
            for optimizer in optimizers:
                if optimizer.state:  # there is no average before the first step
                    optimizer.eval()
        elif not to_average and self._training_weights is not None:
            for optimizer in optimizers:
                optimizer.train()
            # `train` recomputes the training weights from the average, which causes rounding errors.
            for parameter, value in zip(parameters, self._training_weights, strict=True):
                parameter.copy_(value)
            self._training_weights = None


def _optimizers(runner: Run) -> list[Any]:
    optimizers = (wrapper.optimizer for wrapper in runner.optim_wrapper.parts.values())
    return [optimizer for optimizer in optimizers if is_schedule_free(optimizer)]


def _weights(runner: Run) -> dict[str, Any]:
    state = unwrap_model(runner.model).state_dict()
    return _with_values(state, {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)})


def _with_values(state: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Returns a copy of a state dict with some values replaced. Unlike a new dict, it keeps the layer versions."""
    state = copy.copy(state)
    state.update(values)
    return state
