"""Schedules for the first generation's `lr_config` and `momentum_config`."""

import dataclasses
from typing import Any, ClassVar

from footplate.checks import check_number
from footplate.errors import ArgumentError, BuildError
from footplate.messages import nearest
from footplate.openmmlab.first_generation.optim.policies import POLICIES, Policy, RunInfo, check_warmup
from footplate.optim.schedules.param_schedule import HasParamGroups, ParamSchedule
from footplate.registry import PARAM_SCHEDULERS


class PolicySchedule(ParamSchedule):
    """A schedule with the arguments of `lr_config` and `momentum_config`.

    Args:
        optimizer: An optimizer or optimizer wrapper.
        policy: The name of the policy, such as "step", "poly" or "CosineAnnealing".
        by_epoch: Whether the policy counts epochs instead of iterations.
        warmup: "constant", "linear", "exp", or None for no warm-up.
        warmup_iters: The length of the warm-up.
        warmup_ratio: The factor at the start of the warm-up.
        warmup_by_epoch: Whether `warmup_iters` counts epochs instead of iterations.
        epoch_length: The number of iterations per epoch.
        max_epochs: The number of epochs in the run.
        max_iters: The number of iterations in the run, if the epoch length is unknown.
        last_step: See `ParamSchedule`.
        options: The settings of the policy.

    Raises:
        ArgumentError: The policy is unknown, or a value is out of range.
        BuildError: A setting of the policy is unknown or missing.
    """

    field: ClassVar[str]
    needs_run: ClassVar[bool] = True

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

        by_epoch = by_epoch and not find_policy(policy, self.field).by_iteration
        check_warmup(warmup, warmup_iters, warmup_ratio)
        if max_iters is None:
            max_iters = require("max_epochs", max_epochs) * require("epoch_length", epoch_length)
        run = RunInfo(
            unit=require("epoch_length", epoch_length) if by_epoch else 1,
            full=require("max_epochs", max_epochs) if by_epoch else max_iters,
            epoch_length=epoch_length,
            warmup=warmup,
            warmup_iters=warmup_iters if warmup else 0,
            warmup_ratio=warmup_ratio,
            divides=self.field == "momentum",
        )
        if warmup and warmup_by_epoch:
            run = run._replace(warmup_iters=warmup_iters * require("epoch_length", epoch_length))
        curve = build_policy(policy, options, self.field, run)
        super().__init__(optimizer, curve, param_name=self.field, by_epoch=False, last_step=last_step)


@PARAM_SCHEDULERS.register_module()
class PolicyLR(PolicySchedule):
    """The learning rate schedule of a first-generation `lr_config`; see `PolicySchedule`."""

    field = "lr"


@PARAM_SCHEDULERS.register_module()
class PolicyMomentum(PolicySchedule):
    """The momentum schedule of a first-generation `momentum_config`; see `PolicySchedule`."""

    field = "momentum"


def find_policy(name: str, field: str) -> type[Policy]:
    """Returns the curve class of a policy for "lr" or "momentum". A lowercase name may have an initial capital.

    Raises:
        ArgumentError: The policy is unknown.
    """
    for known, kind in POLICIES[field].items():
        if name in (known, known.title() if known.islower() else known):
            return kind
    raise ArgumentError(f'unknown policy "{name}"', key="policy", found=name, suggestion=nearest(name, POLICIES[field]))


def policy_settings(kind: type[Policy], field: str) -> dict[str, dataclasses.Field[Any]]:
    """Maps the keys of `lr_config` or `momentum_config` that configure a policy to the fields of its class."""
    fields = {each.name.replace("eta_min", f"min_{field}"): each for each in dataclasses.fields(kind)}
    del fields["run"]
    return fields


def build_policy(name: str, settings: dict[str, Any], field: str, run: RunInfo) -> Policy:
    """Builds the curve of a policy.

    Args:
        name: The name of the policy.
        settings: The settings of the policy, with the keys of `lr_config` or `momentum_config`.
        field: "lr" or "momentum".
        run: The lengths of the run and the warm-up.

    Raises:
        ArgumentError: The policy is unknown, or a value is out of range.
        BuildError: A setting is unknown or missing.
    """
    kind = find_policy(name, field)
    keys = policy_settings(kind, field)
    for key, value in settings.items():
        if key not in keys:
            raise BuildError(
                f"the policy '{name}' takes no argument '{key}'", key=key, found=value, suggestion=nearest(key, keys)
            )
        if keys[key].name.startswith("eta_min"):
            check_number(key, value, least=0, optional=True)
    for key, each in keys.items():
        if each.default is dataclasses.MISSING and key not in settings:
            raise BuildError(f"the policy '{name}' needs the argument '{key}'", key=key)
    return kind(run=run, **{keys[key].name: value for key, value in settings.items()})
