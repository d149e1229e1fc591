"""A schedule that wraps a torch scheduler."""

import copy
import inspect
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.optim.lr_scheduler import (
    ConstantLR,
    CyclicLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from footplate.checks import check_flag, is_number
from footplate.errors import ArgumentError
from footplate.optim.schedules.schedule import HasParamGroups, MetricSchedule

_OWN_RATES = ("torch.CyclicLR", "torch.OneCycleLR")  # they replace `initial_lr` of the optimizer
_BY_ITERATION = (CyclicLR, OneCycleLR)  # torch requires these to step after each batch
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

    Raises:
        ArgumentError: The scheduler was created for a different optimizer than `optimizer`.
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
    ) -> None:
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
        self._first = copy.deepcopy(scheduler.state_dict()), self.get_last_value()

    def step(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Steps the scheduler. Steps ReduceLROnPlateau only if there are metrics."""
        if not self.takes_metrics:
            self.scheduler.step()
        elif metrics is not None:
            self.scheduler.step(self.monitored_value(metrics))

    def rewind(self, saved: Sequence[Any] = ()) -> None:
        """Resets the scheduler to its state at the start of the run.

        Scales its learning rates if `initial_lr` in the groups has changed, as it may come from a checkpoint, unless a
        scheduler in `saved` has replaced it.
        """
        state, rates = self._first
        scale = not any(each.get("type") in _OWN_RATES for each in saved)
        groups = self.optimizer.param_groups
        factors = [
            group["initial_lr"] / base if base and scale else 1.0
            for group, base in zip(groups, self.base_values, strict=True)
        ]
        self.scheduler.load_state_dict(copy.deepcopy(state))
        for part in _parts(self.scheduler):
            if hasattr(part, "base_lrs"):
                part.base_lrs = [rate * factor for rate, factor in zip(part.base_lrs, factors, strict=True)]
        for group, rate, factor in zip(groups, rates, factors, strict=True):
            group["lr"] = rate * factor

    def state_dict(self) -> dict[str, Any]:
        """Returns the scheduler's state and type.

        The type has the prefix `torch.`, which distinguishes it from the types of footplate's schedules.
        """
        name = f"torch.{type(self.scheduler).__name__}"
        return {"type": name, "by_epoch": self.by_epoch, "state": self.scheduler.state_dict()}

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
        if changed := list(_changed_settings(self.scheduler, saved)):
            _logger.warning(
                "Ignoring the new settings %s of %s and resuming with the saved ones. To use the new ones, set "
                "resume_settings='take' (--resume-settings take).",
                ", ".join(changed),
                name,
            )
        self.scheduler.load_state_dict(saved)
        for part in _parts(self.scheduler):
            if isinstance(part, MultiStepLR):  # checkpoints store the `Counter` as a plain dict
                part.milestones = Counter(part.milestones)


def _parts(scheduler: Any) -> Iterator[Any]:
    """Yields a scheduler and the schedulers in it, such as those of a SequentialLR or ChainedScheduler."""
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from _parts(part)


def _length_of(scheduler: Any) -> Any:
    """Returns the number of steps after which a scheduler no longer changes or repeats itself, or None if unknown."""
    if isinstance(scheduler, ConstantLR):  # may be meant to last for the whole run
        return None
    if isinstance(scheduler, SequentialLR):
        return max(scheduler._milestones, default=0) + (_length_of(scheduler._schedulers[-1]) or 0)
    parts = getattr(scheduler, "_schedulers", ())
    lengths = [*(getattr(scheduler, name, None) for name in _LENGTHS), *map(_length_of, parts)]
    return max(filter(is_number, lengths), default=None)


def _changed_settings(scheduler: Any, saved: Mapping[str, Any]) -> Iterator[str]:
    """Yields the settings of a scheduler, and of the schedulers in it, that differ from those in its saved state."""
    arguments = inspect.signature(type(scheduler)).parameters.keys() - {"last_epoch", "schedulers"}
    for name, value in scheduler.state_dict().items():
        argument = name.removeprefix("_")  # SequentialLR has `_milestones`
        if argument in arguments and value != saved.get(name, value):
            yield f"{argument}={value}"
    for part, state in zip(getattr(scheduler, "_schedulers", ()), saved.get("_schedulers", ()), strict=False):
        for change in _changed_settings(part, state):
            yield f"{change} ({type(part).__name__})"
