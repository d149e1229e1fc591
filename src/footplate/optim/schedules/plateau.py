"""A schedule that listens to a metric."""

import logging
import math
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from footplate.checks import check_count, check_score
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.optim.schedules.checks import check_number, is_number
from footplate.optim.schedules.curves import Constant
from footplate.optim.schedules.fields import HasGroups
from footplate.optim.schedules.schedule import ParamSchedule
from footplate.registry import PARAM_SCHEDULERS
from footplate.state_values import read_count, read_number

_logger = logging.getLogger("footplate.optim")


@PARAM_SCHEDULERS.register_module(name="ReduceOnPlateauParamScheduler")
class ReduceOnPlateau(ParamSchedule):
    """Multiplies a field by `factor` when a metric has stopped getting better.

    Args:
        optimizer: An optimizer or wrapper.
        param_name: The field.
        monitor: The metric, by its name among those of a validation.
        rule: "less" or "greater": what is better.
        factor: Below 1.
        patience: How many validations without a better value are borne.
        threshold: By how much a value must be better.
        threshold_rule: "rel" for a share of the best value, "abs" for an amount.
        cooldown: How many validations are ignored after a change.
        min_value: The lowest value, one for all groups or one for each.
        eps: Changes smaller than this are left out.
        begin: The first validation that counts.
        end: The first one that no longer does.
        by_epoch: Kept for what other schedules say; it moves after validations.
        last_step: As in `ParamSchedule`.

    Raises:
        ArgumentError: An argument is out of its range.
    """

    takes_metrics: ClassVar[bool] = True
    need_val_args: ClassVar[bool] = True

    def __init__(
        self,
        optimizer: HasGroups,
        param_name: str,
        *,
        monitor: str = "loss",
        rule: str = "less",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_rule: str = "rel",
        cooldown: int = 0,
        min_value: float | list[float] = 0.0,
        eps: float = 1e-8,
        begin: int = 0,
        end: int | None = None,
        by_epoch: bool = True,
        last_step: int = -1,
    ) -> None:
        _check_choice("rule", rule, ("less", "greater"))
        _check_choice("threshold_rule", threshold_rule, ("rel", "abs"))
        if not is_number(factor) or not 0 < factor < 1:
            raise ArgumentError('"factor" lies between 0 and 1', key="factor", found=factor)
        for name, value in (("patience", patience), ("cooldown", cooldown)):
            check_count(name, value, least=0)
        for name, amount in (("threshold", threshold), ("eps", eps)):
            check_number(name, amount, least=0)
        self.monitor, self.rule = monitor, rule
        self.factor, self.patience, self.cooldown = factor, patience, cooldown
        self.threshold, self.threshold_rule, self.eps = threshold, threshold_rule, eps
        self.best = math.inf if rule == "less" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        super().__init__(
            optimizer,
            Constant(1.0),
            param_name=param_name,
            begin=begin,
            end=end,
            by_epoch=by_epoch,
            last_step=last_step,
        )
        self.min_values = _one_each(min_value, len(self._slots))

    def step(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Takes the metrics of a validation; without any, nothing happens but the count.

        Raises:
            ArgumentError: The watched metric is not among them.
        """
        self._global_step += 1
        if not self.begin <= self._global_step < self.end:
            return
        self.last_step += 1
        if metrics is None:
            return
        self._watch(self._value_in(metrics))
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            self._reduce()

    def state_dict(self) -> dict[str, Any]:
        """Returns position, best value and counts."""
        own = {name: getattr(self, name) for name in ("best", "num_bad_epochs", "cooldown_counter")}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self.best = read_number(state_dict, "best", finite=False)
        self.num_bad_epochs = read_count(state_dict, "num_bad_epochs")
        self.cooldown_counter = read_count(state_dict, "cooldown_counter")

    def check_metrics(self, metrics: Collection[str]) -> None:
        """Refuses to watch a metric that a validation does not give.

        Args:
            metrics: The names of those that it gives.

        Raises:
            ArgumentError: The watched one is not among them.
        """
        if self.monitor not in metrics:
            raise ArgumentError(
                f'no metric "{self.monitor}" to watch among those of the validation',
                key="param_scheduler.monitor",
                found=sorted(metrics),
                suggestion=nearest(self.monitor, metrics),
            )

    def _value_in(self, metrics: Mapping[str, Any]) -> float:
        self.check_metrics(metrics)
        return check_score(self.monitor, metrics[self.monitor], key="param_scheduler.monitor")

    def _watch(self, value: float) -> None:
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0

    def _is_better(self, value: float) -> bool:
        sign = -1 if self.rule == "less" else 1
        if math.isinf(self.best):
            return sign * value > sign * self.best
        margin = self.threshold * (self.best if self.threshold_rule == "rel" else 1)
        return value < self.best - margin if self.rule == "less" else value > self.best + margin

    def _reduce(self) -> None:
        for (slot, _), lowest in zip(self._slots, self.min_values, strict=True):
            value = slot[self._key]
            reduced = max(value * self.factor, lowest)
            if value - reduced > self.eps:
                slot[self._key] = reduced


@PARAM_SCHEDULERS.register_module()
class ReduceOnPlateauLR(ReduceOnPlateau):
    """`ReduceOnPlateau` of the learning rate."""

    def __init__(self, optimizer: HasGroups, **settings: Any) -> None:
        super().__init__(optimizer, "lr", **settings)


@PARAM_SCHEDULERS.register_module()
class ReduceOnPlateauMomentum(ReduceOnPlateau):
    """`ReduceOnPlateau` of the momentum."""

    def __init__(self, optimizer: HasGroups, **settings: Any) -> None:
        super().__init__(optimizer, "momentum", **settings)


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ArgumentError(
            f'"{name}" is one of {", ".join(known)}', key=name, found=value, suggestion=nearest(str(value), known)
        )


def _one_each(value: float | list[float], count: int) -> list[float]:
    for each in value if isinstance(value, (list, tuple)) else [value]:
        check_number("min_value", each, least=0)
    values = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if len(values) != count:
        raise ArgumentError(
            f'"min_value" has {len(values)} entries for {count} parameter groups', key="min_value", found=value
        )
    return values
