"""Clips gradients, and checks them for non-finite values before an optimizer step."""

import logging
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from footplate.checks import check_choice, check_keys, is_number
from footplate.distributed.sharding import is_dtensor, local_tensor, tensor_norms
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError, NonFiniteError
from footplate.messages import pluralize
from footplate.records import MessageHub

_logger = logging.getLogger("footplate.optim")
_EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_
CLIPPING_KEYS = {
    "norm": ("max_norm", "norm_type", "error_if_nonfinite", "foreach"),
    "value": ("clip_value", "foreach"),
}

POLICIES = ("stop", "skip", "warn")
# GradScaler's kernel, which checks all gradients in one pass and multiplies them (here by 1).
_check_finite = torch._amp_foreach_non_finite_check_and_unscale_


class GradientClipper:
    """Clips gradients in place, like torch's `clip_grad_norm_` or `clip_grad_value_`.

    Attributes:
        gives_norm: Whether calls return the total norm before clipping. True only if `function` is `clip_grad_norm_`.
    """

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
        self._function = function
        self._settings = settings
        self.gives_norm = function is clip_grad_norm_

    @torch.no_grad()
    def __call__(self, params: list[Tensor]) -> Tensor | None:
        """Clips the gradients of `params` and returns their norm before clipping, or None if it was not computed.

        Raises:
            ArgumentError: A gradient is sparse.
        """
        gradients = [parameter.grad for parameter in params if parameter.grad is not None]
        if any(gradient.is_sparse for gradient in gradients):
            raise ArgumentError("clip_grad does not support sparse gradients", key="optim_wrapper.clip_grad")
        if any(map(is_dtensor, gradients)):
            return self._clip_sharded(gradients)
        return self._function(params, **self._settings)  # type: ignore[no-any-return]

    def _clip_sharded(self, gradients: list[Tensor]) -> Tensor | None:
        """Clips sharded gradients. They may be on different device meshes, which torch's functions do not support."""
        shards = [local_tensor(gradient) for gradient in gradients]
        if not self.gives_norm:
            limit = self._settings["clip_value"]
            for shard in shards:
                shard.clamp_(-limit, limit)
            return None
        order = self._settings.get("norm_type", 2.0)
        total: Tensor = torch.linalg.vector_norm(tensor_norms(gradients, order), order)
        if self._settings.get("error_if_nonfinite") and not bool(total.isfinite()):
            raise NonFiniteError("the gradient norm is non-finite, and clip_grad sets error_if_nonfinite")
        factor = (self._settings["max_norm"] / (total + _EPS)).clamp(max=1.0)
        for shard in shards:
            shard.mul_(factor)
        return total


def build_clipper(cfg: Mapping[str, Any]) -> GradientClipper:
    """Builds a gradient clipper from the value of `clip_grad`.

    Args:
        cfg: A dict with a `type` ("norm", the default, or "value") and arguments for `clip_grad_norm_` or
            `clip_grad_value_`.

    Raises:
        ArgumentError: A key or the type is unknown, or a value is out of range.
    """
    if not isinstance(cfg, Mapping):
        notes = ["Write clip_grad=dict(max_norm=1.0), or dict(type='value', clip_value=1.0)."]
        raise ArgumentError("clip_grad must be a dict", key="clip_grad", found=cfg, notes=notes)
    with at_key("clip_grad"), located(cfg):
        settings = dict(cfg)
        clip_type = check_choice("type", settings.pop("type", "norm"), CLIPPING_KEYS)
        check_keys(f"gradient clipping by {clip_type}", settings, CLIPPING_KEYS[clip_type])
        if settings.get("norm_type") == "inf":
            settings["norm_type"] = math.inf
        limit = CLIPPING_KEYS[clip_type][0]
        for key, default in ((limit, None), ("norm_type", 2)):
            value: Any = settings.get(key, default)
            if not is_number(value) or not value > 0:
                raise ArgumentError(f"'{key}' must be a positive number", key=key, found=value)
    return GradientClipper(clip_grad_value_ if clip_type == "value" else clip_grad_norm_, settings)


class GradientGuard:
    """Checks whether the gradients are finite, and decides whether the optimizer may step.

    A single fused kernel checks all gradients. On a GPU, reading the result requires a synchronization. The policy
    "skip" avoids this with a fused optimizer (`fused=True`): its kernel receives the result and can skip the update.
    With float16, a loss scaler checks the gradients too, and skips every step with non-finite ones.

    `NonFiniteGuard.begin` chooses the policy. What happens with each policy:

    | non-finite gradients | "stop" | "skip" | "warn" |
    |---|---|---|---|
    | without a loss scaler | `allows_step` raises | `allows_step` skips the step and warns | `allows_step` warns |
    | the same, on a GPU with a fused optimizer | as above | the kernel skips, `warn_of_skipped` warns | as above |
    | with a loss scaler that can lower its scale | the scaler skips | the scaler skips | the scaler skips |
    | the scale is fixed or <= 1 | `allows_step` raises | the scaler skips | the scaler skips, `allows_step` warns |

    In the last two rows, `AmpOptimWrapper` decides whether the scaler or `allows_step` handles the gradients.

    Args:
        policy: What to do about non-finite gradients: "stop" raises an error, "skip" skips the step with a warning, and
            "warn" only warns. Warnings are logged for the 1st, 2nd, 4th, 8th, ... such step.

    Attributes:
        policy: The argument `policy`.
        count: The number of steps with non-finite gradients so far.

    Raises:
        ArgumentError: `policy` is unknown.
    """

    def __init__(self, policy: str) -> None:
        self.policy = check_choice("on_nonfinite", policy, POLICIES)
        self.count = 0
        self._skipped: Tensor | int = 0  # how many steps the device has skipped since the last warning
        self._cpu_flag = torch.zeros(())  # reused in every step, because creating it takes as long as the check

    def allows_step(
        self,
        optimizer: Optimizer,
        losses: int,
        norm: Tensor | None = None,
        *,
        message_hub: MessageHub | None = None,
        has_scaler: bool = False,
    ) -> bool:
        """Checks whether the optimizer's `step` should be called, according to the table above.

        Also returns True if the optimizer's kernel is to skip the update, which avoids a copy to the host.

        Args:
            optimizer: The optimizer.
            losses: The number of losses so far, which messages report as the iteration outside a run.
            norm: The gradient norm before any clipping, as a scalar tensor, or None if unknown. If the norm is finite,
                so are the gradients.
            message_hub: The hub that contains the iteration of the run, if any.
            has_scaler: Whether a loss scaler skips the step if gradients are non-finite, for messages.

        Raises:
            NonFiniteError: The gradients are non-finite and the policy is "stop".
        """
        if norm is not None and norm.device.type == "cpu" and math.isfinite(norm):
            return True
        groups = optimizer.param_groups
        gradients = [grad for group in groups for parameter in group["params"] if (grad := parameter.grad) is not None]
        if not gradients:
            return True
        flag = _nonfinite_flag(gradients, self._cpu_flag)
        if not flag.is_cpu and self.policy == "skip" and can_skip_on_device(optimizer):
            optimizer.grad_scale = None  # type: ignore[attr-defined]
            optimizer.found_inf = flag  # type: ignore[attr-defined]
            self._skipped = self._skipped + flag
            return True
        if not flag.item():
            return True
        flag.zero_()
        self.count += 1
        iteration = losses if message_hub is None else message_hub.get_info("iter", losses - 1) + 1
        if self.policy == "stop":
            raise NonFiniteError(f"the gradients in iteration {iteration} are non-finite")
        if self.count & (self.count - 1) == 0:  # the 1st, 2nd, 4th, 8th ... time
            outcome = "the step is skipped" if has_scaler or self.policy == "skip" else "the step is taken anyway"
            _logger.warning(
                "The gradients in iteration %d are non-finite (%s so far): %s.",
                iteration,
                pluralize(self.count, "time"),
                outcome,
            )
        return self.policy == "warn"

    def warn_of_skipped(self, iteration: int) -> None:
        """Logs how many steps the optimizer has skipped on the device since the last call. Waits for the device."""
        count, self._skipped = int(self._skipped), 0
        if count:
            self.count += count
            _logger.warning(
                "Skipped %s up to iteration %d: non-finite gradients (%s so far).",
                pluralize(count, "step"),
                iteration,
                pluralize(self.count, "time"),
            )


def _nonfinite_flag(gradients: list[Tensor], cpu_flag: Tensor) -> Tensor:
    """Returns a scalar tensor that is positive if a gradient is non-finite on any rank.

    On a CPU, may return `cpu_flag` itself, which must be 0 before the call.
    """
    device = gradients[0].device
    is_uniform = {*map(type, gradients)} == {Tensor} and len({gradient.dtype for gradient in gradients}) == 1
    if is_uniform and not gradients[0].is_mps:
        flag = cpu_flag if gradients[0].is_cpu else torch.zeros((), device=device)
        try:
            _check_finite(gradients, flag, _one(device))
            return flag
        except RuntimeError:  # gradients are sparse, complex or on several devices
            flag.zero_()
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for gradient in gradients:
        values = local_tensor(gradient)
        values = values.coalesce().values() if values.is_sparse else values
        values = torch.view_as_real(values) if values.is_complex() else values
        kinds.setdefault((values.device, values.dtype), []).append(values)
    flags: dict[torch.device, Tensor] = {}
    for (device, _), group in kinds.items():
        flag = flags.setdefault(device, torch.zeros((), device=device))
        # On MPS, some versions of torch lack the kernel, and in others it sets half-precision gradients to zero.
        # Source: https://github.com/pytorch/pytorch/pull/184286
        if group[0].is_mps:
            flag += torch.stack([~values.isfinite().all() for values in group]).any()
        else:
            _check_finite(group, flag, _one(device))
    first, *others = flags.values()
    flag = sum((device_flag.to(first.device) for device_flag in others), first)
    meshes = [gradient.device_mesh for gradient in gradients if is_dtensor(gradient)]  # type: ignore[attr-defined]
    for mesh in dict.fromkeys(meshes):  # in the same order on all ranks
        for dimension in range(mesh.ndim):  # each rank has checked only its own shards
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=mesh.get_group(dimension))
    return flag


@lru_cache
def _one(device: torch.device) -> Tensor:
    """Returns a scalar tensor with the value 1, which the kernel uses as the gradient scale."""
    return torch.ones((), device=device)


def can_skip_on_device(optimizer: Optimizer) -> bool:
    """Checks whether the optimizer's kernel can skip the update based on a flag in device memory."""
    is_fused = all(group.get("fused") for group in optimizer.param_groups)  # not cached: loading a state may change it
    return is_fused and isinstance(optimizer, (Adagrad, Adam, AdamW, SGD))


def foreign_gradients_error() -> ArgumentError:
    """Returns the error to raise if gradients were not computed with the wrapper's `backward`."""
    return ArgumentError(
        "step() was called without backward(loss) on the same object, so the gradients are not scaled for mixed "
        "precision or not averaged over processes",
        key="optim_wrapper",
        notes=["Instead of loss.backward(), call backward(loss) on the object whose step() you call."],
    )
