"""`RunnerView`, the part of first-generation runners that hooks read, and its log buffer."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np

from footplate.data import SampleLoader, length_of
from footplate.engine import Runner
from footplate.optim import OptimWrapper
from footplate.records import MessageHub
from footplate.registry import Registry
from footplate_openmmlab.first_generation.adapters.model import MMDataParallel, legacy_model_in, of_each_optimizer

_RUNNERS = "footplate_openmmlab.first_generation.adapters.runners"
RUNNERS = Registry("runner", scope="footplate", locations=[_RUNNERS], base=f"{_RUNNERS}:BaseRunner")
_VIEW = "_first_generation_view"  # the attribute of the engine's runner that contains its view
# Recorded by the engine, but first-generation loggers get these values from `runner.current_lr()`.
_ENGINE_SCALARS = ("lr", "base_lr", "momentum")
_KEPT_COUNTS = 1 << 13
_COUNTERS = ("epoch", "iter", "inner_iter", "max_epochs", "max_iters")
SampleLoader._dataloader = property(lambda loader: loader)  # type: ignore[attr-defined]  # as in mmcv's IterLoader
HUB_MESSAGES = ("best_score", "best_ckpt", "last_ckpt")
"""The keys of `hook_msgs` that the message hub also contains."""
# Attributes that mmcv's hooks may assign, and what to do instead.
_NOT_REPLACEABLE = {
    "model": "Modify runner.model.module in place.",
    "optimizer": "Modify runner.optimizer.param_groups, or call runner.optimizer.add_param_group.",
    "data_loader": "Modify runner.data_loader.dataset in place.",
}


class _Output(OrderedDict[str, Any]):
    """The values for the next log line. Values that a hook assigns are also stored in `assigned`."""

    def __init__(self) -> None:
        super().__init__()
        self.assigned: dict[str, Any] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.assigned[name] = value


class LogBuffer:
    """Collects values to log, keyed by name, and records them in the message hub.

    Args:
        hub: The message hub of the run.
        mode: A function that returns the current mode, "train" or "val".

    Attributes:
        hides_loss: Whether the loss of the model is left out, because the model does not return it in `log_vars`.
        output: The averages computed by the latest call to `average`, and values assigned by hooks.
        ready: Whether `output` is ready to be logged.
    """

    def __init__(self, hub: MessageHub | None = None, mode: Callable[[], str] = lambda: "train") -> None:
        self._hub = hub or MessageHub("log_buffer")
        self._mode = mode
        self.ready = self.hides_loss = False
        self.output = _Output()
        self._counts: dict[str, deque[float]] = {}
        self._begin: dict[str, int] = {}

    @property
    def val_history(self) -> dict[str, list[float]]:
        """The values of each scalar recorded in the current mode since the latest `clear`, keyed by name."""
        return {name: values.tolist() for name, values, _ in self._histories()}

    @property
    def n_history(self) -> dict[str, list[float]]:
        """The sample count of each value in `val_history`, keyed by name."""
        return {name: counts.tolist() for name, _, counts in self._histories()}

    def update(self, values: Mapping[str, Any], count: int = 1) -> None:
        """Records values, each of which is a mean over `count` samples."""
        for name, value in values.items():
            key = f"{self._mode()}/{name}"
            is_single = isinstance(value, (int, float)) or (hasattr(value, "ndim") and np.prod(value.shape) == 1)
            (self._hub.update_scalar if is_single else self._hub.update_info)(key, value)
            self._counts.setdefault(key, deque(maxlen=_KEPT_COUNTS)).append(count)

    def average(self, n: int = 0) -> None:
        """Averages each scalar's latest `n` values, weighted by their sample counts, and stores the means in `output`.

        If `n` is 0, averages all values since `clear`.
        """
        for name, values, counts in self._histories(n):
            OrderedDict.__setitem__(self.output, name, float((values * counts).sum() / counts.sum()))
        self.ready = True

    def clear(self) -> None:
        """Clears `output` and starts new averages. Keeps the histories in the message hub."""
        self._begin = {key: history.num_added for key, history in self._hub.log_scalars.items()}
        self.clear_output()

    def replace_output(self, values: Mapping[str, Any]) -> None:
        """Replaces the contents of `output` without recording the values again."""
        self.clear_output()
        for name, value in values.items():
            OrderedDict.__setitem__(self.output, name, value)
        self.ready = True

    def clear_output(self) -> None:
        """Clears `output` and marks it as not ready to be logged."""
        self.output.clear()
        self.ready = False

    def _histories(self, latest: int = 0) -> list[tuple[str, Any, Any]]:
        """Returns the name, values and counts of each scalar recorded in the current mode since the last `clear`."""
        found = []
        for key, history in self._hub.log_scalars.items():
            mode, _, name = key.partition("/")
            since = history.num_added - self._begin.get(key, 0)
            is_hidden = name.rpartition(".")[2] in _ENGINE_SCALARS or (name == "loss" and self.hides_loss)
            if mode == self._mode() and not is_hidden and since > 0:
                values = history.data[0][-min(latest or since, since) :]
                own = list(self._counts.get(key, ()))[-len(values) :]
                found.append((name, values, np.array([1.0] * (len(values) - len(own)) + own)))
        return found


def view_of(runner: Runner) -> Any:
    """Returns the first-generation runner of a run: the script's object or, in a run from a config, a new one."""
    view = existing_view_of(runner)
    if view is None:
        kind: Any = RUNNERS.get("EpochBasedRunner" if runner.by_epoch else "IterBasedRunner")
        view = kind.__new__(kind)
        view.join(runner)
    return view


def existing_view_of(runner: Runner) -> Any:
    """Returns the first-generation runner of a run, or None if no hook has used one."""
    return vars(runner).get(_VIEW)


class RunnerView:
    """The part of a first-generation runner that hooks read: in scripts also before and after a run.

    All other attributes are read from the engine's runner. Hooks may set attributes to share them with other hooks.

    Attributes:
        engine: The engine's runner. In a script, it is only set during a run.
        mode: "train", or "val" during a validation phase of a workflow and while validation metrics are logged.
        data_batch: The current batch.
        outputs: `loss`, `log_vars` and `num_samples` of the latest iteration.
        log_buffer: Collects values to log.
        awaiting_validation: The event that some hooks handle after the next validation run, or "".
        late_event: The event that hooks handle after the validation run.
    """

    engine: Runner | None = None
    _ran: Runner  # the engine's runner of the latest run
    _meta: dict[str, Any]
    _epoch = _iter = _inner_iter = 0
    _max_epochs: int | None = None
    _max_iters: int | None = None
    epoch = property(attrgetter("_epoch"), doc="The number of completed epochs, or of passes over the training data.")
    iter = property(attrgetter("_iter"), doc="The number of iterations completed before the current one.")
    inner_iter = property(attrgetter("_inner_iter"), doc="The batch index within the epoch.")
    max_epochs = property(attrgetter("_max_epochs"), doc="The number of epochs, or None in an iteration-based run.")
    max_iters = property(attrgetter("_max_iters"), doc="The number of iterations of the run.")
    mode: str | None = None
    data_batch: Any = None
    awaiting_validation = late_event = _event = ""
    _validation_loader: Any = None

    def join(self, runner: Runner) -> None:
        """Makes this object the first-generation runner of a run."""
        vars(runner)[_VIEW] = self
        known = {"exp_name": runner.experiment_name, "seed": runner.seed, "hook_msgs": {}}
        self.meta = known | vars(self).get("_meta", {})
        self.mode = "train"
        self.outputs: dict[str, Any] = {}
        self.log_buffer = LogBuffer(runner.message_hub, lambda: str(self.mode))
        self._saved_rates: dict[str, Any] = {}
        self._ran = self.engine = runner
        if "train_loop" in runner.built:
            self._count()

    def __getattr__(self, name: str) -> Any:
        if "_ran" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no '{name}' before run()", name=name, obj=self)
        return getattr(self._ran, name)

    def __setattr__(self, name: str, value: Any) -> None:
        counter = name.removeprefix("_")
        if counter not in _COUNTERS:
            if self.engine is not None and (advice := _NOT_REPLACEABLE.get(name)):
                text = f"a hook cannot replace runner.{name}; the run would still use the original. {advice}"
                raise AttributeError(text)
            super().__setattr__(name, value)
            return
        if self.engine is None:
            super().__setattr__(f"_{counter}", value)
            return
        loop = self.engine.train_loop
        length, done = ("max_epochs", self.epoch) if loop.by_epoch else ("max_iters", self.iter)
        if counter != length or value > done + 1:
            raise AttributeError(
                f"a hook cannot set runner.{name}, because the training loop maintains the counters. "
                "To end the run early, set runner.train_loop.stop_training = True."
            )
        loop.stop_training = True

    @cached_property
    def model(self) -> Any:
        """The wrapped model; `runner.model.module` is the model without the wrapper. In a script, its model."""
        return MMDataParallel(self._ran.unwrapped_model)

    @cached_property
    def optimizer(self) -> Any:
        """The optimizer, or a dict of optimizers keyed by name if there are several. In a script, its optimizer."""
        return of_each_optimizer(self._ran.optim_wrapper, lambda part: part.optimizer)

    @property
    def meta(self) -> dict[str, Any]:
        """The run's metadata. `hook_msgs` contains `HUB_MESSAGES` and messages from hooks."""
        infos = self._ran.message_hub.runtime_info if "_ran" in vars(self) else {}
        known = {name: infos[name] for name in HUB_MESSAGES if name in infos}
        self._meta.setdefault("hook_msgs", {}).update(known)
        return self._meta

    @meta.setter
    def meta(self, value: dict[str, Any] | None) -> None:
        self._meta = {} if value is None else value

    @property
    def data_loader(self) -> Any:
        """The dataloader of the current mode."""
        return self._ran.train_dataloader if self.mode == "train" else self._validation_loader

    def current_lr(self) -> Any:
        """Returns the learning rate of each parameter group in the current iteration, as a list.

        If there are several optimizers, returns a dict of such lists, keyed by optimizer name.
        """
        return self._current("lr")

    def current_momentum(self) -> Any:
        """Returns the momentum or first beta of each parameter group, in the same form as `current_lr`."""
        return self._current("momentum")

    def set_training_event(self, event: str, arguments: Mapping[str, Any], *, is_late: bool = False) -> None:
        """Updates this object from the engine's `arguments` for a training event, before the hooks are called.

        `is_late` states that the event is handled after the validation run that follows it.
        """
        self.mode, self._event, self.late_event = "train", event, event if is_late else ""
        batch = arguments.get("batch_idx")
        self._count(batch, ends_iter=event == "after_train_iter", ends_epoch=event == "after_train_epoch")
        if batch is None:
            return
        self.data_batch = arguments.get("data_batch")
        if event == "before_train_iter" and self.inner_iter == 0 and self._ran.train_loop.by_epoch:
            self.log_buffer.clear()
        if "outputs" not in arguments:
            return
        logged, model = arguments["outputs"] or {}, legacy_model_in(self._ran.model)
        if model is not None:
            self.outputs = dict(model.outputs)
        else:
            size = getattr(self._ran.train_dataloader, "batch_size", None)
            self.outputs = {"loss": logged.get("loss"), "log_vars": dict(logged), "num_samples": size or 1}
        self.log_buffer.hides_loss = "log_vars" not in self.outputs
        if (loss := getattr(self._ran.optim_wrapper, "pending_loss", None)) is not None:
            self.outputs["loss"] = loss

    def set_validation_state(self, loader: Any, inner_iter: int = 0, data_batch: Any = None) -> None:
        """Updates this object for a validation phase of a workflow."""
        self._validation_loader, self.data_batch = loader, data_batch
        self.mode, self._event = "val", ""
        self._count(inner_iter)

    def _count(self, batch: int | None = None, *, ends_iter: bool = False, ends_epoch: bool = False) -> None:
        """Updates the counters from the training loop."""
        loop, length = self._ran.train_loop, length_of(self._ran.train_dataloader) or 1
        iteration = loop.iter - (ends_iter and bool(self.late_event))
        epoch = loop.epoch - (ends_epoch and bool(self.late_event)) if loop.by_epoch else iteration // length
        counts: dict[str, int | None] = {"_iter": iteration, "_epoch": epoch, "_max_iters": loop.max_iters}
        counts |= {"_max_epochs": loop.max_epochs if loop.by_epoch else None}
        vars(self).update(counts if batch is None else counts | {"_inner_iter": batch % length})

    def save_rates(self) -> None:
        """Saves the learning rates and momenta of the current iteration before the schedules change them."""
        self._saved_rates = {"lr": self._read("lr"), "momentum": self._read("momentum")}

    def _current(self, field: str) -> Any:
        if (self._event.startswith("after_train") or self.mode == "val") and field in self._saved_rates:
            return self._saved_rates[field]
        return self._read(field)

    def _read(self, field: str) -> Any:
        read = getattr(OptimWrapper, f"get_{field}")  # which only uses `param_groups`
        optimizers = self.optimizer
        if isinstance(optimizers, Mapping):
            return {name: read(each)[field] for name, each in optimizers.items()}
        return read(optimizers)[field] if optimizers else {}
