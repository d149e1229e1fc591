"""What happens to a step whose gradients are not finite."""

import logging
import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from footplate.errors import ArgumentError, NonFiniteError
from footplate.messages import nearest

_logger = logging.getLogger("footplate.optim")

POLICIES = ("stop", "skip", "warn")
# The scaler's own kernel: one pass over all, and a multiplication by 1 that changes nothing.
_check = torch._amp_foreach_non_finite_check_and_unscale_


class GradientGuard:
    """Looks at the gradients before a step.

    One fused pass finds out whether all are finite. On a CPU that is read at once. On an accelerator a step is skipped
    without reading it where the optimizer's kernel can do so (`fused=True`), and read otherwise.

    Args:
        policy: "stop" raises, "skip" leaves the step out, "warn" takes it; each says so.

    Raises:
        ArgumentError: The policy is unknown.
    """

    def __init__(self, policy: str) -> None:
        if policy not in POLICIES:
            raise ArgumentError(
                f"the policy for gradients that are not finite is one of {', '.join(POLICIES)}",
                key="on_nonfinite",
                found=policy,
                suggestion=nearest(str(policy), POLICIES),
            )
        self.policy = policy
        self.count = 0
        self._alike: _AlikeGradients | None = None
        self._judged = 0

    def allows_step(
        self, optimizer: Optimizer, iteration: int, norm: Tensor | None = None, *, skipped: bool = False
    ) -> bool:
        """Checks whether the optimizer may step.

        Args:
            optimizer: The optimizer.
            iteration: The losses so far, for the message.
            norm: The norm of the gradients, 0-d, where it is known: one that is finite answers the question. They may
                have been clipped by it since.
            skipped: Whether somebody else leaves the step out in any case, for the message.

        Raises:
            NonFiniteError: The gradients are not finite and the policy is "stop".
        """
        if norm is not None and norm.device.type == "cpu" and math.isfinite(norm):
            return True
        gradients = [
            grad for group in optimizer.param_groups for each in group["params"] if (grad := each.grad) is not None
        ]
        if len(gradients) != self._judged:
            self._alike, self._judged = _AlikeGradients.of(gradients), len(gradients)
        alike = self._alike
        if alike is None or alike.value is None:
            off = self._read_elsewhere(optimizer, gradients)
        else:
            # By far the most frequent case, gradients alike on a CPU, goes without a tensor in between.
            _check(gradients, alike.found, alike.one)
            off = alike.value.item()
        if not off:
            return True
        if alike is not None:
            alike.found.zero_()
        return self._decide(iteration, skipped=skipped or self.policy == "skip")

    def _read_elsewhere(self, optimizer: Optimizer, gradients: list[Tensor]) -> bool:
        """Checks whether a gradient is not finite; on an accelerator the optimizer is left to find out if it can."""
        if not gradients:
            return False
        flag = self._alike.flag(gradients) if self._alike else _flag_of(gradients)
        if self.policy == "skip" and flag.device.type != "cpu" and skips_by_itself(optimizer):
            optimizer.grad_scale, optimizer.found_inf = None, flag  # type: ignore[attr-defined]
            return False
        return bool(flag.item())

    def _decide(self, iteration: int, *, skipped: bool) -> bool:
        self.count += 1
        if self.policy == "stop":
            raise NonFiniteError(f"the gradients of iteration {iteration} are not finite", iteration=iteration)
        if self.count & (self.count - 1) == 0:  # the 1st, 2nd, 4th, 8th ... time
            done = "the step is skipped" if skipped else "the step is taken all the same"
            _logger.warning("the gradients of iteration %d are not finite: %s (%d so far)", iteration, done, self.count)
        return self.policy == "warn"


class _AlikeGradients:
    """Judges dense gradients of one device and dtype, as nearly all are: nothing is sorted or allocated at a step.

    Args:
        device: Where they lie.
    """

    def __init__(self, device: torch.device) -> None:
        self.found = torch.zeros(1, device=device)
        self.one = torch.ones(1, device=device)
        # What a CPU found is read at once, through numpy's view of it.
        self.value = self.found.numpy() if device.type == "cpu" else None

    @classmethod
    def of(cls, gradients: list[Tensor]) -> "_AlikeGradients | None":
        """Returns the judge of these gradients, None where they are not alike."""
        kinds = {(each.device, each.dtype) for each in gradients}
        special = any(each.is_sparse or each.is_complex() or hasattr(each, "to_local") for each in gradients)
        return None if special or len(kinds) != 1 else cls(gradients[0].device)

    def flag(self, gradients: list[Tensor]) -> Tensor:
        """Returns `(1,)`, above 0 where a gradient is not finite; valid until the next call."""
        self.found.zero_()
        _check(gradients, self.found, self.one)
        return self.found


def _flag_of(gradients: list[Tensor]) -> Tensor:
    """Returns `(1,)`, above 0 where a gradient is not finite on any rank."""
    flag = torch.zeros(1, device=gradients[0].device)
    kinds: dict[tuple[Any, Any], list[Tensor]] = {}
    for gradient in gradients:
        local = _local(gradient)
        plain = local.coalesce().values() if local.is_sparse else local
        plain = torch.view_as_real(plain) if plain.is_complex() else plain
        kinds.setdefault((plain.device, plain.dtype), []).append(plain)
    for (device, _), group in kinds.items():
        found = torch.zeros(1, device=device)
        _check(group, found, torch.ones(1, device=device))
        flag = flag + found.to(flag.device)
    for mesh in {mesh for gradient in gradients if (mesh := getattr(gradient, "device_mesh", None)) is not None}:
        for dimension in range(mesh.ndim):  # each rank has seen its own shards
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=mesh.get_group(dimension))
    return flag


def _local(gradient: Tensor) -> Tensor:
    # By its method, since importing the class of sharded tensors takes its time.
    to_local = getattr(gradient, "to_local", None)
    return gradient if to_local is None else torch.as_tensor(to_local())


def skips_by_itself(optimizer: Optimizer) -> bool:
    """Checks whether the optimizer's kernel leaves a step out where a flag on the device says so."""
    fused = all(group.get("fused") for group in optimizer.param_groups)  # a state that is loaded may change it
    return fused and bool(getattr(optimizer, "_step_supports_amp_scaling", False))
