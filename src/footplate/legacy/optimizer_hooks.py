"""Optimizer hooks, as bases of hooks that make the step by themselves."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_

from footplate.checks import check_count
from footplate.errors import ArgumentError
from footplate.legacy.hook import Hook
from footplate.legacy.wrappers import SteppedByHook
from footplate.optim.wrappers.base import warn_of_long_round
from footplate.registry import HOOKS


@HOOKS.register_module()
class OptimizerHook(Hook):
    """Makes the step after each iteration: backward, clip, step.

    A config's `optimizer_config` needs no such hook: its settings are those of the optimizer wrapper. A subclass of the
    user's own, `optimizer_config = dict(type="MyOptimizerHook", ...)`, is called in its place.

    Args:
        grad_clip: Arguments of torch's `clip_grad_norm_`.
        detect_anomalous_params: Names parameters that do not take part in the loss.

    Raises:
        ArgumentError: The run has an optimizer wrapper that steps already.
    """

    priority = "ABOVE_NORMAL"

    def __init__(self, grad_clip: Mapping[str, Any] | None = None, detect_anomalous_params: bool = False) -> None:
        self.grad_clip = grad_clip
        self.detect_anomalous_params = detect_anomalous_params

    def before_run(self, runner: Any) -> None:
        """Checks that nobody else steps."""
        if not isinstance(runner.optim_wrapper, SteppedByHook):
            raise ArgumentError(
                f"{type(self).__name__} steps, and so does the optimizer wrapper",
                key="optimizer_config",
                notes=["optimizer_config = dict(type=...) names the one hook that steps"],
            )

    def listeners(self) -> dict[str, Callable[..., Any]]:
        """Returns what is called at each event; schedules, which act first, do not touch the step of an iteration."""
        found = super().listeners()
        step = found["after_train_iter"]

        def call(runner: Any, **arguments: Any) -> None:
            with runner.optim_wrapper.settings_in_force():
                step(runner, **arguments)

        return {**found, "after_train_iter": call}

    def clip_grads(self, params: Iterable[Tensor]) -> Any:
        """Clips the gradients and returns their norm from before; None without gradients."""
        trained = [each for each in params if each.requires_grad and each.grad is not None]
        return clip_grad_norm_(trained, **(self.grad_clip or {})) if trained else None

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Makes the step."""
        runner.optimizer.zero_grad()
        if self.detect_anomalous_params:
            self.name_idle_parameters(runner)
        self.backward(runner.outputs["loss"])
        self.step(runner)

    def backward(self, loss: Tensor) -> None:
        """Computes the gradients."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, runner: Any) -> None:
        """Clips where that is asked for, and steps."""
        self.clip(runner)
        runner.optimizer.step()

    def clip(self, runner: Any) -> None:
        """Clips where that is asked for, and records the norm."""
        norm = self.clip_grads(runner.model.parameters()) if self.grad_clip is not None else None
        if norm is not None:
            runner.log_buffer.update({"grad_norm": norm.detach()}, runner.outputs.get("num_samples", 1))

    def name_idle_parameters(self, runner: Any) -> None:
        """Logs the parameters that the loss does not depend on."""
        named = [(name, each) for name, each in runner.model.module.named_parameters() if each.requires_grad]
        loss = runner.outputs["loss"]
        found = torch.autograd.grad(loss, [each for _, each in named], retain_graph=True, allow_unused=True)
        for (name, parameter), gradient in zip(named, found, strict=True):
            if gradient is None:
                runner.logger.warning("%s of size %s takes no part in the loss", name, tuple(parameter.shape))


@HOOKS.register_module()
class GradientCumulativeOptimizerHook(OptimizerHook):
    """Makes a step of several iterations; a shorter last round counts its own length.

    Args:
        cumulative_iters: How many.
        settings: Those of OptimizerHook.

    Raises:
        ArgumentError: `cumulative_iters` is no positive number.
    """

    def __init__(self, cumulative_iters: int = 1, **settings: Any) -> None:
        super().__init__(**settings)
        self.cumulative_iters = check_count("cumulative_iters", cumulative_iters)

    def before_run(self, runner: Any) -> None:
        """Checks that nobody else steps, and that the round fits into the run."""
        super().before_run(runner)
        warn_of_long_round("cumulative_iters", self.cumulative_iters, runner.max_iters)

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Adds the gradients of an iteration, and makes the step when the round is full."""
        done, count = runner.iter, self.cumulative_iters
        begin = done - done % count
        length = min(count, runner.max_iters - begin)
        self.backward(runner.outputs["loss"] / length)
        if done + 1 == begin + length:
            self.step(runner)
            runner.optimizer.zero_grad()


class _HalfPrecision(OptimizerHook):
    """Trains in half precision, with a loss scale where gradients would vanish.

    Args:
        loss_scale: "dynamic", a number, or arguments of torch's GradScaler.
        coalesce: Known to existing configs; gradients travel as torch sends them.
        bucket_size_mb: The same.
        distributed: The same.
        settings: Those of the hook without half precision.
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
        given = loss_scale if isinstance(loss_scale, Mapping) else {}
        self._fixed = float(loss_scale) if isinstance(loss_scale, (int, float)) else None
        self._scale: dict[str, Any] = {"init_scale": self._fixed} if self._fixed is not None else dict(given)
        self.loss_scaler: GradScaler | None = None

    def before_run(self, runner: Any) -> None:
        """Lets the forward passes run in half precision."""
        super().before_run(runner)
        kind = runner.device.type
        runner.optim_wrapper.precision = torch.bfloat16 if kind == "cpu" else torch.float16
        self.loss_scaler = GradScaler(kind, enabled=kind != "cpu", **self._scale)

    def backward(self, loss: Tensor) -> None:
        """Computes the gradients of the scaled loss."""
        assert self.loss_scaler is not None
        self.loss_scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, runner: Any) -> None:
        """Takes the scale off, clips, and steps unless gradients are not finite."""
        assert self.loss_scaler is not None
        self.loss_scaler.unscale_(runner.optimizer)
        self.clip(runner)
        self.loss_scaler.step(runner.optimizer)
        self.loss_scaler.update(self._fixed)


@HOOKS.register_module()
class Fp16OptimizerHook(_HalfPrecision):
    """OptimizerHook in half precision."""


@HOOKS.register_module()
class GradientCumulativeFp16OptimizerHook(_HalfPrecision, GradientCumulativeOptimizerHook):
    """GradientCumulativeOptimizerHook in half precision."""
