"""Base classes for user-defined hooks that step the optimizer."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_

from footplate.checks import check_count
from footplate.errors import ArgumentError
from footplate.registry import HOOKS
from footplate_openmmlab.first_generation.adapters.hook import Hook, SteppedByHook


@HOOKS.register_module()
class OptimizerHook(Hook):
    """Runs the backward pass, clips gradients and steps the optimizer after each iteration.

    Derive your own hooks from this class and set `optimizer_config = dict(type="MyOptimizerHook", ...)`. The hook, not
    the optimizer wrapper, then steps the optimizer. An `optimizer_config` without a user-defined hook is translated to
    optimizer wrapper settings.

    Args:
        grad_clip: Arguments for torch's `clip_grad_norm_`; None disables clipping.
        detect_anomalous_params: Whether to log the parameters that the loss does not depend on.

    Raises:
        ArgumentError: The run's optimizer wrapper also steps the optimizer.
    """

    priority = "ABOVE_NORMAL"

    def __init__(self, grad_clip: Mapping[str, Any] | None = None, detect_anomalous_params: bool = False) -> None:
        self.grad_clip = grad_clip
        self.detect_anomalous_params = detect_anomalous_params

    def before_run(self, runner: Any) -> None:
        """Raises an ArgumentError if the optimizer wrapper also steps the optimizer."""
        if not isinstance(runner.optim_wrapper, SteppedByHook):
            raise ArgumentError(
                f"both {type(self).__name__} and the optimizer wrapper call optimizer.step()",
                key="optimizer_config",
                notes=["Configure the hook with optimizer_config = dict(type=...)."],
            )

    def listeners(self) -> dict[str, Callable[..., Any]]:
        """Returns the hook's callbacks, keyed by event.

        The optimizer step uses the current iteration's settings, even if schedules have already changed them for the
        next iteration.
        """
        found = super().listeners()
        step = found["after_train_iter"]

        def call(runner: Any, **arguments: Any) -> None:
            with runner.optim_wrapper.iteration_settings():
                step(runner, **arguments)

        return {**found, "after_train_iter": call}

    def clip_grads(self, params: Iterable[Tensor]) -> Any:
        """Clips the gradients. Returns their norm before clipping, or None if there are no gradients."""
        with_grad = [each for each in params if each.requires_grad and each.grad is not None]
        return clip_grad_norm_(with_grad, **(self.grad_clip or {})) if with_grad else None

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Runs the backward pass and steps the optimizer."""
        runner.optimizer.zero_grad()
        if self.detect_anomalous_params:
            self.detect_anomalous_parameters(runner.outputs["loss"], runner)
        self.backward(runner.outputs["loss"])
        self.step(runner)

    def detect_anomalous_parameters(self, loss: Tensor, runner: Any) -> None:
        """Logs the parameters that the loss does not depend on."""
        trained = {name: each for name, each in runner.model.named_parameters() if each.requires_grad}
        gradients = torch.autograd.grad(loss, list(trained.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(trained, gradients, strict=True):
            if gradient is None:
                runner.logger.log(level=logging.ERROR, msg=f"The loss does not depend on the parameter '{name}'.")

    def backward(self, loss: Tensor) -> None:
        """Runs the backward pass."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, runner: Any) -> None:
        """Clips the gradients if `grad_clip` is set, and steps the optimizer."""
        self.clip(runner)
        runner.optimizer.step()

    def clip(self, runner: Any) -> None:
        """Clips the gradients and logs their norm, if `grad_clip` is set."""
        norm = self.clip_grads(runner.model.parameters()) if self.grad_clip is not None else None
        if norm is not None:
            runner.log_buffer.update({"grad_norm": norm.detach()}, runner.outputs.get("num_samples", 1))


@HOOKS.register_module()
class GradientCumulativeOptimizerHook(OptimizerHook):
    """Accumulates the gradients of several iterations before each optimizer step.

    The loss is divided by the number of accumulated iterations. The last step of the run may accumulate fewer.

    Args:
        cumulative_iters: The number of iterations per optimizer step.
        settings: Arguments for OptimizerHook.

    Raises:
        ArgumentError: `cumulative_iters` is not a positive integer.
    """

    def __init__(self, cumulative_iters: int = 1, **settings: Any) -> None:
        super().__init__(**settings)
        self.cumulative_iters = check_count("cumulative_iters", cumulative_iters)

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Accumulates gradients. Steps the optimizer every `cumulative_iters` iterations and at the end of the run."""
        iteration, count = runner.iter, self.cumulative_iters
        first = iteration - iteration % count
        length = min(count, runner.max_iters - first)
        self.backward(runner.outputs["loss"] / length)
        if iteration + 1 == first + length:
            self.step(runner)
            runner.optimizer.zero_grad()


@HOOKS.register_module()
class Fp16OptimizerHook(OptimizerHook):
    """OptimizerHook with float16 mixed precision and loss scaling, or bfloat16 without loss scaling on the CPU.

    Args:
        loss_scale: A fixed scale, "dynamic", or arguments for torch's GradScaler.
        coalesce: Ignored; torch reduces the gradients.
        bucket_size_mb: Ignored; torch reduces the gradients.
        distributed: Ignored; torch reduces the gradients.
        settings: Arguments for the base class.
    """

    def __init__(
        self,
        loss_scale: Any = 512.0,
        coalesce: bool = True,
        bucket_size_mb: int = -1,
        distributed: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._fixed = float(loss_scale) if isinstance(loss_scale, (int, float)) else None
        self._scale = loss_scale if isinstance(loss_scale, Mapping) else {}
        if self._fixed is not None:
            self._scale = {"init_scale": self._fixed}
        self._resumed: dict[str, Any] = {}

    def before_run(self, runner: Any) -> None:
        """Sets the autocast dtype of the forward pass and creates the gradient scaler."""
        super().before_run(runner)
        kind = runner.device.type
        runner.optim_wrapper.precision = torch.bfloat16 if kind == "cpu" else torch.float16
        self.loss_scaler = GradScaler(kind, enabled=kind != "cpu", **self._scale)
        self.loss_scaler.load_state_dict(self._resumed or self.loss_scaler.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the gradient scaler."""
        return self.loss_scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stores the state of the gradient scaler, which `before_run` creates."""
        self._resumed = state

    def backward(self, loss: Tensor) -> None:
        """Runs the backward pass on the scaled loss."""
        self.loss_scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, runner: Any) -> None:
        """Unscales and clips the gradients, and steps the optimizer unless a gradient is non-finite."""
        self.loss_scaler.unscale_(runner.optimizer)
        self.clip(runner)
        self.loss_scaler.step(runner.optimizer)
        self.loss_scaler.update(self._fixed)


@HOOKS.register_module()
class GradientCumulativeFp16OptimizerHook(Fp16OptimizerHook, GradientCumulativeOptimizerHook):
    """GradientCumulativeOptimizerHook with mixed precision and loss scaling."""
