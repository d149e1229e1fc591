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
    """Decides whether a step may be taken, depending on whether its gradients are finite.

    All gradients are checked by one fused kernel. On an accelerator, reading its result would wait for the device.
    With the policy "skip" it is therefore passed to the optimizer, if its kernel can skip the step (`fused=True`).

    Args:
        policy: What to do if gradients are non-finite: "stop" raises an error, "skip" skips the step with a warning,
            "warn" only warns.

    Raises:
        ArgumentError: `policy` is unknown.
    """

    def __init__(self, policy: str) -> None:
        check_choice("on_nonfinite", policy, POLICIES)
        self.policy = policy
        self.count = 0
        self._uniform: _UniformGradientCheck | None = None
        self._inspected_count = 0

    def allows_step(
        self, optimizer: Optimizer, iteration: int, norm: Tensor | None = None, *, skipped: bool = False
    ) -> bool:
        """Checks whether the optimizer may step.

        Args:
            optimizer: The optimizer.
            iteration: The number of the iteration, for messages.
            norm: The norm of the gradients, 0-d, if it is known. If it is finite, so are the gradients. They may have
                been clipped since.
            skipped: Whether the caller skips the step in any case, for messages.

        Raises:
            NonFiniteError: The gradients are non-finite and the policy is "stop".
        """
        if norm is not None and norm.device.type == "cpu" and math.isfinite(norm):
            return True
        gradients = [
            grad for group in optimizer.param_groups for each in group["params"] if (grad := each.grad) is not None
        ]
        if len(gradients) != self._inspected_count:
            self._uniform, self._inspected_count = _UniformGradientCheck.create(gradients), len(gradients)
        uniform = self._uniform
        if uniform is None or uniform.host_flag is None:
            is_nonfinite = self._has_nonfinite(optimizer, gradients)
        else:
            # The fast path for the most frequent case, uniform gradients on a CPU.
            _check_finite(gradients, uniform.flag, uniform.one)
            is_nonfinite = bool(uniform.host_flag.item())
        if not is_nonfinite:
            return True
        if uniform is not None:
            uniform.flag.zero_()
        return self._apply_policy(iteration, skipped=skipped or self.policy == "skip")

    def _has_nonfinite(self, optimizer: Optimizer, gradients: list[Tensor]) -> bool:
        """Checks whether a gradient is non-finite; returns False if the check is left to a fused optimizer."""
        if not gradients:
            return False
        flag = self._uniform.run(gradients) if self._uniform else _nonfinite_flag(gradients)
        if self.policy == "skip" and flag.device.type != "cpu" and can_skip_on_device(optimizer):
            optimizer.grad_scale, optimizer.found_inf = None, flag  # type: ignore[attr-defined]
            return False
        return bool(flag.item())

    def _apply_policy(self, iteration: int, *, skipped: bool) -> bool:
        """Counts a step with non-finite gradients, and warns or raises an error; returns whether to take the step."""
        self.count += 1
        if self.policy == "stop":
            raise NonFiniteError(f"the gradients of iteration {iteration} are not finite", iteration=iteration)
        if self.count & (self.count - 1) == 0:  # the 1st, 2nd, 4th, 8th ... time
            done = "the step is skipped" if skipped else "the step is taken anyway"
            _logger.warning("the gradients of iteration %d are not finite: %s (%d so far)", iteration, done, self.count)
        return self.policy == "warn"


class _UniformGradientCheck:
    """Checks dense gradients with one device and dtype, without grouping them or allocating memory at each step.

    Args:
        device: The device of the gradients.
    """

    def __init__(self, device: torch.device) -> None:
        self.flag = torch.zeros(1, device=device)
        self.one = torch.ones(1, device=device)
        # Reading through a numpy view is faster than `item` of the tensor.
        self.host_flag = self.flag.numpy() if device.type == "cpu" else None

    @classmethod
    def create(cls, gradients: list[Tensor]) -> "_UniformGradientCheck | None":
        """Returns a check for these gradients, or None if they are sparse, complex, sharded or of several kinds."""
        kinds = {(each.device, each.dtype) for each in gradients}
        special = any(each.is_sparse or each.is_complex() or hasattr(each, "to_local") for each in gradients)
        return None if special or len(kinds) != 1 else cls(gradients[0].device)

    def run(self, gradients: list[Tensor]) -> Tensor:
        """Returns a flag, ``(1,)``, above 0 if a gradient is non-finite; it is valid until the next call."""
        self.flag.zero_()
        _check_finite(gradients, self.flag, self.one)
        return self.flag


def _nonfinite_flag(gradients: list[Tensor]) -> Tensor:
    """Returns a flag, ``(1,)``, above 0 if a gradient is non-finite on any rank."""
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
    for mesh in {mesh for gradient in gradients if (mesh := getattr(gradient, "device_mesh", None)) is not None}:
        for dimension in range(mesh.ndim):  # each rank has checked only its own shards
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=mesh.get_group(dimension))
    return flag


def can_skip_on_device(optimizer: Optimizer) -> bool:
    """Checks whether the kernel of the optimizer can skip a step depending on a flag on the device."""
    is_fused = all(group.get("fused") for group in optimizer.param_groups)  # not cached: loading a state may change it
    return is_fused and bool(getattr(optimizer, "_step_supports_amp_scaling", False))
