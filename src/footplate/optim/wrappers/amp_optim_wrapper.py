"""The optimizer wrapper for automatic mixed precision."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from footplate.checks import check_choice, check_keys, check_number, read_count
from footplate.data.waiting import data_wait
from footplate.error_context import at_key
from footplate.optim.wrappers.gradient_checks import foreign_gradients_error
from footplate.optim.wrappers.optim_wrapper import NO_CONTEXT, OptimWrapper
from footplate.registry import OPTIM_WRAPPERS
from footplate.weighted import Weighted

_SCALER_KEYS = ("init_scale", "growth_factor", "backoff_factor", "growth_interval")
_DTYPES = ("float16", "bfloat16")


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Runs forward passes in mixed precision, and scales the loss so that float16 gradients do not underflow.

    Source: Mixed Precision Training (Micikevicius et al., 2018).

    Args:
        optimizer: The optimizer.
        loss_scale: "dynamic", a fixed number, or a dict with arguments for `torch.amp.GradScaler`. Used only with
            float16, since bfloat16 has the same range as float32.
        dtype: "float16" or "bfloat16". Defaults to float16 on a GPU and bfloat16 on a CPU.
        use_fsdp: Ignored, because `GradScaler` supports sharded gradients without a setting.
        settings: Arguments for `OptimWrapper`.

    Raises:
        ArgumentError: `dtype` or `loss_scale` is invalid.
    """

    _device = ""

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        loss_scale: str | float | Mapping[str, Any] = "dynamic",
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(optimizer, **settings)
        self._dtype = getattr(torch, check_choice("dtype", dtype, _DTYPES)) if isinstance(dtype, str) else dtype
        self._fixed_scale: float | None = None
        self._scaling: Mapping[str, Any] = {}
        if isinstance(loss_scale, Mapping):
            with at_key("loss_scale"):
                check_keys("loss_scale", loss_scale, _SCALER_KEYS)
            self._scaling = loss_scale
        elif loss_scale != "dynamic":
            check_number("loss_scale", loss_scale, above=0)
            self._fixed_scale = float(loss_scale)
            self._scaling = {"init_scale": self._fixed_scale}
        self._adapt_to_device()

    def _adapt_to_device(self) -> None:
        """Chooses the precision for the device of the parameters, and creates the loss scaler."""
        device = self.parameters()[0].device.type
        if device != self._device:
            self._device = device
            self._precision = self._dtype or (torch.bfloat16 if device == "cpu" else torch.float16)
            self.loss_scaler = GradScaler(device, enabled=self._precision is torch.float16, **self._scaling)
            self.has_scaler = self.loss_scaler.is_enabled()

    def backward(self, loss: Tensor | Weighted, **kwargs: Any) -> None:
        """Scales the loss and runs the backward pass; see `OptimWrapper.backward`."""
        if isinstance(loss, Weighted):
            loss = self.scale_loss(loss)
        super().backward(self.loss_scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clips the gradients and steps the optimizer; see `OptimWrapper.step`.

        With float16, the gradients are unscaled first if they are clipped or checked, and otherwise by the scaler as it
        steps. If they overflow, the scaler skips the step and lowers the scale.
        `on_nonfinite` then applies only if lowering the scale cannot help, i.e. if the scale is fixed or at most 1.

        Raises:
            ArgumentError, NonFiniteError: See `OptimWrapper.step`.
        """
        if self.has_scaler:
            if not self._called_backward:
                raise foreign_gradients_error()
            if not self._is_sharded and all(parameter.grad is None for parameter in self.parameters()):
                self._called_backward = False
                return  # all parameters are frozen for now, but torch's scaler needs at least one gradient
            if self._clipper or (self._guard and self._guard.policy != "skip"):
                data_wait.keep()  # gradients must not be unscaled twice
                self.loss_scaler.unscale_(self.optimizer)
        super().step(**kwargs)
        self.loss_scaler.update(self._fixed_scale)

    def _may_step(self, norm: Tensor | None) -> bool:
        """Checks whether to step; see the table in `GradientGuard`. The scaler itself skips some steps."""
        guard = self._guard
        if guard is None or not self.has_scaler:
            return super()._may_step(norm)
        # Reads the scale only if necessary, because this copies it from the device.
        if guard.policy == "skip" or (self._fixed_scale is None and self.loss_scaler.get_scale() > 1):
            return True  # the scaler skips the step
        return super()._may_step(norm)

    def _step_optimizer(self, **kwargs: Any) -> None:
        self.loss_scaler.step(self.optimizer, **kwargs)
        # Within a `training_step` that steps several times, autocast would go on using the weights before the step.
        torch.clear_autocast_cache()

    def optim_context(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Returns a context manager that enables mixed precision in the forward pass; see also the base class."""
        context = super().optim_context(model)
        autocast = torch.autocast(self._device, self._precision)  # a new one, because it cannot be nested in itself
        if context is NO_CONTEXT:
            return autocast
        stack = ExitStack()
        stack.enter_context(context)
        stack.enter_context(autocast)
        return stack

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the `OptimWrapper` and the loss scaler."""
        state = super().state_dict()
        scaler_state = self.loss_scaler.state_dict()
        return {**state, "loss_scaler": scaler_state} if scaler_state else state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Loads the state of the `OptimWrapper` and the loss scaler."""
        saved = state_dict.get("loss_scaler")
        if saved and self.has_scaler:
            self.loss_scaler.load_state_dict({**saved, "_growth_tracker": read_count(saved, "_growth_tracker")})
        super().load_state_dict(state_dict)
