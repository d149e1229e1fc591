"""A schedule that wraps a torch scheduler."""

import copy
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from torch.optim.lr_scheduler import (
    ConstantLR,
    CyclicLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from footplate.checks import check_choice, check_flag, is_number
from footplate.errors import ArgumentError
from footplate.optim.schedules.schedule import HasParamGroups, MetricSchedule, write_field

_BY_ITERATION = (CyclicLR, OneCycleLR)  # torch requires these to step after each batch
_OWN_RATES = ("CyclicLR", "OneCycleLR")  # they replace `initial_lr` of the optimizer, and may replace the momentum
_CONTAINERS_AND_RATES = ("_schedulers", "base_lrs", "_last_lr")
_LENGTHS = ("total_steps", "T_max", "total_iters")  # the attributes that contain a scheduler's number of steps
_logger = logging.getLogger("footplate.optim")


class TorchSchedule(MetricSchedule):
    """Wraps a torch scheduler, so that a run steps it and saves its state.

    Args:
        optimizer: The run's optimizer or optimizer wrapper.
        scheduler: The scheduler. ReduceLROnPlateau steps after each validation run.
        by_epoch: Whether to step the scheduler after each epoch rather than after each iteration. By default,
            OneCycleLR and CyclicLR step after each iteration, and other schedulers after each epoch.
        counts_epochs: Whether the run is epoch-based. If not, all schedulers step after each iteration by default.
        monitor: The name of the validation metric for ReduceLROnPlateau.
        by: After what to step the scheduler, instead of `by_epoch`: "epoch", "iteration" or "step". A step of the
            optimizer takes several iterations if it accumulates gradients.

    Raises:
        ArgumentError: The scheduler was created for a different optimizer than `optimizer`, or both `by` and `by_epoch`
            are set.
    """

    advice = ("The metric is `monitor` in param_scheduler=dict(scheduler=..., monitor='...').",)

    def __init__(
        self,
        optimizer: HasParamGroups,
        scheduler: LRScheduler,
        *,
        by_epoch: bool | None = None,
        counts_epochs: bool = True,
        monitor: str = "loss",
        by: str | None = None,
    ) -> None:
        if by is not None:
            if by_epoch is not None:
                raise ArgumentError("only one of 'by' and 'by_epoch' may be set", key="by", found=by)
            by_epoch = check_choice("by", by, ("epoch", "iteration", "step")) == "epoch"
        self._wrapper: Any = optimizer if by == "step" and hasattr(optimizer, "should_update") else None
        self.iterations_per_step: int = getattr(self._wrapper, "_accumulative_counts", 1)
        is_default = by_epoch is None
        if by_epoch is None:
            by_epoch = counts_epochs and not isinstance(scheduler, _BY_ITERATION)
        super().__init__(optimizer, "lr", by_epoch=check_flag("by_epoch", by_epoch))
        self.takes_metrics = isinstance(scheduler, ReduceLROnPlateau)
        length = _length_of(scheduler)
        if length is not None:
            self.end = length
        elif is_default and by_epoch and not self.takes_metrics:
            _logger.info(
                "The %s steps after each epoch. To step it after each iteration, set "
                "param_scheduler=dict(scheduler=..., by_epoch=False).",
                type(scheduler).__name__,
            )
        if scheduler.optimizer is not self.optimizer:
            raise ArgumentError(
                f"the {type(scheduler).__name__} changes the learning rates of a different optimizer",
                key="scheduler",
                notes=[
                    "Create it with the optimizer that you pass as optim_wrapper. For several optimizers, pass a dict "
                    "with one scheduler per optimizer name."
                ],
            )
        self.scheduler: Any = scheduler
        self.monitor = monitor
        self.rule = getattr(scheduler, "mode", "")
        # torch would warn if gradient accumulation delays the optimizer's first step.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        self._first = copy.deepcopy(
            (
                scheduler.state_dict(),
                [
                    {name: value for name, value in group.items() if name != "params"}
                    for group in self.optimizer.param_groups
                ],
            )
        )

    def step(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Steps the scheduler. Steps ReduceLROnPlateau only if there are metrics."""
        if not self.takes_metrics:
            if self._wrapper is None or self._wrapper.should_update():
                self.scheduler.step()
        elif metrics is not None:
            self.scheduler.step(self.monitored_value(metrics))

    def rewind(self, saved: Sequence[Any] = ()) -> None:
        """Resets the scheduler, and the fields that it may have set in the groups, to the start of the run.

        Scales its learning rates if `initial_lr` in the groups has changed, as it may come from a checkpoint, unless
        this scheduler or one in `saved` has replaced it.
        """
        state, groups = copy.deepcopy(self._first)
        replaces_rates = any(
            name in str(each.get("type")) for each in (self.state_dict(), *saved) for name in _OWN_RATES
        )
        factors = []
        for group, first in zip(self.optimizer.param_groups, groups, strict=True):
            base = first.pop("initial_lr")
            factor = group["initial_lr"] / base if base and not replaces_rates else 1.0
            write_field(group, "lr", first.pop("lr") * factor)
            write_field(group, "initial_lr", base * factor)
            kept = self.scheduler.optimizer.defaults.keys() - (("momentum", "betas") if replaces_rates else ())
            group.update({name: value for name, value in first.items() if name not in kept})
            factors.append(factor)
        self.scheduler.load_state_dict(state)
        for part in parts_of(self.scheduler):
            if hasattr(part, "base_lrs"):
                part.base_lrs = [rate * factor for rate, factor in zip(part.base_lrs, factors, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Returns the scheduler's state, type and settings.

        The type has the prefix `torch.`, which distinguishes it from the types of footplate's schedules.
        """
        types = [type(part).__name__ for part in parts_of(self.scheduler)]
        return {
            "type": f"torch.{'+'.join(types)}",
            "by_epoch": self.by_epoch,
            "state": self.scheduler.state_dict(),
            "first": self._settings(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the scheduler's state and settings. If settings have changed, logs a warning and uses the saved ones.

        Raises:
            ArgumentError: The saved scheduler has fewer steps than the new one, so it would fail during training.
        """
        saved = state_dict["state"]
        name = type(self.scheduler).__name__
        steps = saved.get("total_steps", self.end)
        if steps < self.end:
            raise ArgumentError(
                f"the {name} in the checkpoint has {steps} steps, but the new one has {self.end}",
                key="resume_settings",
                notes=["To train longer with the new one, set resume_settings='take' (--resume-settings take)."],
            )
        old, new = state_dict.get("first", {}), self._settings()
        if changed := [_shown(name, value) for name, value in new.items() if value != old.get(name, value)]:
            _logger.warning(
                "Ignoring the new settings %s of %s and resuming with the saved ones. To use the new ones, set "
                "resume_settings='take' (--resume-settings take).",
                ", ".join(changed),
                name,
            )
        self.scheduler.load_state_dict(saved)
        for part in parts_of(self.scheduler):
            if isinstance(part, MultiStepLR):  # checkpoints store the `Counter` as a plain dict
                part.milestones = Counter(part.milestones)

    def _settings(self) -> dict[str, Any]:
        """Returns what the scheduler's arguments have set in it and in the groups, except for the learning rates."""
        state, groups = self._first
        extras = {name: [group.get(name) for group in groups] for name in chain.from_iterable(groups)}
        kept = {*self.scheduler.optimizer.defaults, "lr", "initial_lr"}
        return {**_flat(state), **{name: values for name, values in extras.items() if name not in kept}}


def parts_of(scheduler: Any) -> Iterator[Any]:
    """Yields a scheduler and the schedulers in it, such as those of a SequentialLR or ChainedScheduler."""
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from parts_of(part)


def _length_of(scheduler: Any) -> Any:
    """Returns the number of steps after which a scheduler no longer changes or repeats itself, or None if unknown."""
    if isinstance(scheduler, ConstantLR):  # may be meant to last for the whole run
        return None
    if isinstance(scheduler, SequentialLR):
        return max(scheduler._milestones, default=0) + (_length_of(scheduler._schedulers[-1]) or 0)
    parts = getattr(scheduler, "_schedulers", ())
    lengths = [*(getattr(scheduler, name, None) for name in _LENGTHS), *map(_length_of, parts)]
    return max(filter(is_number, lengths), default=None)


def stays_at_zero(scheduler: LRScheduler, total: int) -> bool:
    """Checks whether the learning rates are 0 after the scheduler's end and, if it has none, at the end of training."""
    if isinstance(scheduler, SequentialLR):
        return stays_at_zero(scheduler._schedulers[-1], total - max(scheduler._milestones, default=0))
    if isinstance(scheduler, LambdaLR):
        last = range(max(total - 2, 1), total)  # many end at 0 in the last step
        return len(last) == 2 and all(function(step) == 0 for function in scheduler.lr_lambdas for step in last)
    return isinstance(scheduler, PolynomialLR) or getattr(scheduler, "end_factor", None) == 0


def _flat(state: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the state of a scheduler and of those in it in one dict, without learning rates."""
    flat = {f"{prefix}{name.strip('_')}": value for name, value in state.items() if name not in _CONTAINERS_AND_RATES}
    for index, part in enumerate(state.get("_schedulers", ())):
        flat |= _flat(part, f"{prefix}schedulers[{index}].")
    return flat


def _shown(name: str, value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    is_short = all(isinstance(each, int | float | str) for each in values)
    return f"{name}={values[0] if len(values) == 1 else value}" if is_short else name
