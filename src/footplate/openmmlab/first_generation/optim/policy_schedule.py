"""Schedules that implement `lr_config` and `momentum_config`."""

from typing import Any, ClassVar

from footplate.errors import ArgumentError
from footplate.openmmlab.first_generation.optim.policies import (
    BY_ITERATION,
    RunInfo,
    build_policy,
    check_warmup,
    find_policy,
)
from footplate.optim.schedules import ParamSchedule
from footplate.optim.schedules.schedule import HasParamGroups, Lengths
from footplate.registry import PARAM_SCHEDULERS


class PolicySchedule(ParamSchedule):
    """Base class for schedules that take the settings of `lr_config` or `momentum_config` as arguments.

    Args:
        optimizer: An optimizer or optimizer wrapper.
        policy: The name of the policy, such as "step", "poly" or "CosineAnnealing".
        by_epoch: Whether the policy changes the value once per epoch rather than once per iteration.
        warmup: "constant", "linear", "exp", or None for no warm-up.
        warmup_iters: The length of the warm-up.
        warmup_ratio: The factor at the start of the warm-up.
        warmup_by_epoch: Whether `warmup_iters` is given in epochs rather than iterations.
        epoch_length: The number of iterations per epoch.
        max_epochs: The number of epochs in the run.
        max_iters: The number of iterations in the run. Required unless the policy counts epochs.
        last_step: See `ParamSchedule`.
        options: The policy's settings.

    Raises:
        ArgumentError: The policy is unknown, or a value is out of range.
        BuildError: A policy setting is unknown or missing.
    """

    field: ClassVar[str]

    def __init__(
        self,
        optimizer: HasParamGroups,
        *,
        policy: str,
        by_epoch: bool = True,
        warmup: str | None = None,
        warmup_iters: int = 0,
        warmup_ratio: float = 0.1,
        warmup_by_epoch: bool = False,
        epoch_length: int | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        last_step: int = -1,
        **options: Any,
    ) -> None:
        def require(key: str, value: int | None) -> int:
            if value is None:
                raise ArgumentError(f"{type(self).__name__} needs {key}", key=key)
            return value

        by_epoch = by_epoch and find_policy(policy, self.field) not in BY_ITERATION
        check_warmup(warmup, warmup_iters, warmup_ratio)
        if not warmup:
            warmup_iters = 0
        elif warmup_by_epoch:
            warmup_iters *= require("epoch_length", epoch_length)
        run = RunInfo(
            full=require("max_epochs", max_epochs) if by_epoch else require("max_iters", max_iters),
            unit=require("epoch_length", epoch_length) if by_epoch else 1,
            epoch_length=epoch_length,
            warmup=warmup,
            warmup_iters=warmup_iters,
            warmup_ratio=warmup_ratio,
        )
        curve = build_policy(policy, options, self.field, run)
        super().__init__(optimizer, curve, param_name=self.field, by_epoch=False, last_step=last_step)

    @classmethod
    def from_config(cls, cfg: Any, optimizer: HasParamGroups, lengths: Lengths) -> ParamSchedule:
        """Builds the schedule from its config and the lengths of the run."""
        return PARAM_SCHEDULERS.build(cfg, optimizer, **lengths)  # type: ignore[no-any-return]


@PARAM_SCHEDULERS.register_module()
class PolicyLR(PolicySchedule):
    """The learning rate schedule for `lr_config`; see `PolicySchedule`."""

    field = "lr"


@PARAM_SCHEDULERS.register_module()
class PolicyMomentum(PolicySchedule):
    """The momentum schedule for `momentum_config`; see `PolicySchedule`."""

    field = "momentum"
