"""Schedules that step a torch scheduler."""

import copy
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from footplate.checks import check_flag, check_keys, check_score
from footplate.errors import ArgumentError
from footplate.optim.schedules.base_curve import ENDLESS
from footplate.optim.schedules.param_schedule import HasParamGroups, ParamSchedule
from footplate.optim.schedules.plateau import check_monitor

_BY_ITERATION = (CyclicLR, OneCycleLR)  # torch documents them as stepped after each batch


class TorchSchedule(ParamSchedule):
    """Steps a torch scheduler and saves its state.

    Args:
        optimizer: The optimizer or optimizer wrapper of the run.
        scheduler: The scheduler.
        by_epoch: Whether to step it after each epoch instead of after each iteration. By default, a OneCycleLR or
            CyclicLR is stepped after each iteration, and other schedulers after each epoch.
        counts_epochs: Whether the run counts epochs. Otherwise, the default is to step after each iteration.

    Raises:
        ArgumentError: The scheduler belongs to another optimizer.
    """

    def __init__(
        self,
        optimizer: HasParamGroups,
        scheduler: LRScheduler,
        *,
        by_epoch: bool | None = None,
        counts_epochs: bool = True,
    ) -> None:
        self.optimizer = getattr(optimizer, "optimizer", optimizer)
        if scheduler.optimizer is not self.optimizer:
            raise ArgumentError(
                f"the {type(scheduler).__name__} changes the learning rates of another optimizer",
                key="scheduler",
                notes=["Create it with the optimizer that you pass as optim_wrapper."],
            )
        usual = counts_epochs and not isinstance(scheduler, _BY_ITERATION)
        self.by_epoch = usual if by_epoch is None else check_flag("by_epoch", by_epoch)
        self.scheduler: Any = scheduler
        self.param_name = "lr"
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # torch warns if accumulation delays the first step
        self.curve: Any = None
        self.begin, self.end, self.last_step = 0, ENDLESS, -1
        self._first = copy.deepcopy(scheduler.state_dict()), [group["lr"] for group in self.optimizer.param_groups]

    def step(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Steps the scheduler."""
        self.scheduler.step()

    def rewind(self, *, from_groups: bool = False) -> None:
        """Resets the scheduler to its state at the start of the run."""
        state, rates = self._first
        self._load(copy.deepcopy(state))
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def start(self) -> None:
        """Does nothing: a torch scheduler sets the first value when it is created."""

    def get_last_value(self) -> list[float]:
        """Returns the current learning rate of each group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the scheduler, and its type."""
        return {"type": type(self.scheduler).__name__, "by_epoch": self.by_epoch, "state": self.scheduler.state_dict()}

    def matches(self, state_dict: dict[str, Any]) -> bool:
        """Checks whether a saved state belongs to a scheduler of the same type."""
        return {"by_epoch": self.by_epoch, "type": type(self.scheduler).__name__}.items() <= state_dict.items()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the state of the scheduler."""
        self._load(state_dict["state"])

    def _load(self, state: Mapping[str, Any]) -> None:
        self.scheduler.load_state_dict(_with_counters(self.scheduler, state))


def _with_counters(scheduler: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """Converts plain dicts in a saved state back to `Counter`, which MultiStepLR needs for its milestones."""
    counters = {key for key, value in vars(scheduler).items() if isinstance(value, Counter)}
    result = {key: Counter(each) if key in counters else each for key, each in state.items()}
    inner = getattr(scheduler, "_schedulers", ())  # of a SequentialLR or ChainedScheduler
    if inner:
        result["_schedulers"] = list(map(_with_counters, inner, state["_schedulers"]))
    return result


class TorchPlateau(TorchSchedule):
    """Steps a ReduceLROnPlateau after each validation.

    Args:
        optimizer: The optimizer or optimizer wrapper of the run.
        scheduler: The scheduler.
        monitor: The name of the validation metric.
        settings: See `TorchSchedule`.
    """

    takes_metrics: ClassVar[bool] = True

    def __init__(
        self, optimizer: HasParamGroups, scheduler: LRScheduler, *, monitor: str = "loss", **settings: Any
    ) -> None:
        super().__init__(optimizer, scheduler, **settings)
        self.monitor = monitor

    def step(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Steps the scheduler with the monitored metric."""
        if metrics is not None:
            self.check_metrics(metrics)
            self.scheduler.step(check_score(self.monitor, metrics[self.monitor], key="param_scheduler.monitor"))

    def check_metrics(self, metrics: Collection[str]) -> None:
        """Checks that the monitored metric is among the names of the validation metrics; see `check_monitor`."""
        check_monitor(self.monitor, metrics, ["Pass param_scheduler=dict(scheduler=..., monitor='...')."])


def torch_schedule(cfg: Any, optimizer: HasParamGroups, *, counts_epochs: bool) -> TorchSchedule | None:
    """Returns the schedule for a torch scheduler, or None if `cfg` is something else.

    Args:
        cfg: The scheduler, or a dict with the key `scheduler` and the optional keys `by_epoch` and `monitor`.
        optimizer: The optimizer or optimizer wrapper of the run.
        counts_epochs: Whether the run counts epochs.

    Raises:
        ArgumentError: The dict has another key.
    """
    settings = dict(cfg) if isinstance(cfg, Mapping) else {"scheduler": cfg}
    scheduler = settings.pop("scheduler", None)
    if not isinstance(scheduler, LRScheduler):
        return None
    is_plateau = isinstance(scheduler, ReduceLROnPlateau)
    check_keys("schedule", settings, ("by_epoch", "monitor") if is_plateau else ("by_epoch",), prefix="")
    kind = TorchPlateau if is_plateau else TorchSchedule
    return kind(optimizer, scheduler, counts_epochs=counts_epochs, **settings)
