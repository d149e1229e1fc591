"""Checks gradients for non-finite values before each optimizer step."""

import logging
import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from footplate.checks import check_choice
from footplate.distributed.sharding import local_tensor
from footplate.errors import NonFiniteError

_logger = logging.getLogger("footplate.optim")

POLICIES = ("stop", "skip", "warn")
# The kernel of GradScaler: checks all gradients in one pass and multiplies them, here by 1.
_check_finite = torch._amp_foreach_non_finite_check_and_unscale_


class GradientGuard:
    """Decides whether the optimizer may take a step, based on whether the gradients are finite.

    All gradients are checked by one fused kernel. On an accelerator, reading its result would wait for the device. With
    the policy "skip", the result is therefore passed to the optimizer if its kernel can skip the step (`fused=True`).

    Args:
        policy: The reaction to non-finite gradients: "stop" raises an error, "skip" skips the step with a warning,
            "warn" only warns.

    Attributes:
        is_enabled: Whether gradients are checked.
        is_step_skipped: Whether a step with non-finite gradients is skipped, for messages.

    Raises:
        ArgumentError: `policy` is unknown.
    """

    def __init__(self, policy: str) -> None:
        check_choice("on_nonfinite", policy, POLICIES)
        self.policy = policy
        self.is_enabled = True
        self.is_step_skipped = policy == "skip"
        self.count = 0  # the number of steps with non-finite gradients so far
        self._inspected_count = 0
        self._is_on_host = True
        # For gradients of one kind, or None. Sorting gradients and allocating a flag takes as long as checking them.
        self._flag: Tensor | None = None
        self._one: Tensor | None = None
        self._is_flag_zero = True

    def allows_step(self, optimizer: Optimizer, iteration: int, norm: Tensor | None = None) -> bool:
        """Checks whether the optimizer may step.

        Args:
            optimizer: The optimizer.
            iteration: The number of the iteration, for messages.
            norm: The norm of the gradients as a scalar tensor, if it is known. If the norm is finite, so are the
                gradients. The gradients may have been clipped after the norm was computed.

        Raises:
            NonFiniteError: The gradients are non-finite and the policy is "stop".
        """
        if not self.is_enabled:
            return True
        if norm is not None and norm.device.type == "cpu" and math.isfinite(norm):
            return True
        gradients = [
            grad for group in optimizer.param_groups for each in group["params"] if (grad := each.grad) is not None
        ]
        if not gradients:
            return True
        if len(gradients) != self._inspected_count:  # the kind of gradients rarely changes between steps
            self._inspect(gradients)
        if self._flag is None or self._one is None:
            flag = _nonfinite_flag(gradients)
        else:
            flag = self._flag if self._is_flag_zero else self._flag.zero_()
            _check_finite(gradients, flag, self._one)
        self._is_flag_zero = False
        if not self._is_on_host and self.policy == "skip" and can_skip_on_device(optimizer):
            optimizer.grad_scale, optimizer.found_inf = None, flag  # type: ignore[attr-defined]
            return True
        if not flag.item():
            self._is_flag_zero = True
            return True
        self.count += 1
        if self.policy == "stop":
            raise NonFiniteError(f"the gradients of iteration {iteration} are non-finite", iteration=iteration)
        if self.count & (self.count - 1) == 0:  # the 1st, 2nd, 4th, 8th ... time
            done = "the step is skipped" if self.is_step_skipped else "the step is taken anyway"
            _logger.warning(
                "The gradients of iteration %d are non-finite: %s (%d so far).", iteration, done, self.count
            )
        return self.policy == "warn"

    def _inspect(self, gradients: list[Tensor]) -> None:
        """Checks whether all gradients are dense and have the same device and dtype."""
        device = gradients[0].device
        is_special = any(each.is_sparse or each.is_complex() or hasattr(each, "to_local") for each in gradients)
        is_uniform = not is_special and len({(each.device, each.dtype) for each in gradients}) == 1
        self._flag = torch.zeros(1, device=device) if is_uniform else None
        self._one = torch.ones(1, device=device) if is_uniform else None
        self._inspected_count, self._is_on_host, self._is_flag_zero = len(gradients), device.type == "cpu", True


def _nonfinite_flag(gradients: list[Tensor]) -> Tensor:
    """Returns a tensor ``(1,)`` that is above 0 if a gradient is non-finite on any rank."""
    flag = torch.zeros(1, device=gradients[0].device)
    kinds: dict[tuple[Any, Any], list[Tensor]] = {}
    for gradient in gradients:
        local = local_tensor(gradient)
        plain = local.coalesce().values() if local.is_sparse else local
        plain = torch.view_as_real(plain) if plain.is_complex() else plain
        kinds.setdefault((plain.device, plain.dtype), []).append(plain)
    for (device, _), group in kinds.items():
        group_flag = torch.zeros(1, device=device)
        _check_finite(group, group_flag, torch.ones(1, device=device))
        flag = flag + group_flag.to(flag.device)
    meshes = dict.fromkeys(getattr(gradient, "device_mesh", None) for gradient in gradients)  # in the same order on all
    for mesh in filter(None, meshes):
        for dimension in range(mesh.ndim):  # each rank has checked only its own shards
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=mesh.get_group(dimension))
    return flag


def can_skip_on_device(optimizer: Optimizer) -> bool:
    """Checks whether the kernel of the optimizer can skip a step based on a flag on the device."""
    is_fused = all(group.get("fused") for group in optimizer.param_groups)  # not cached: loading a state may change it
    return is_fused and bool(getattr(optimizer, "_step_supports_amp_scaling", False))
