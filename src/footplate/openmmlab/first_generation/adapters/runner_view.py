"""`RunnerView`, which first-generation hooks receive in place of the runner, and its log buffer."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary, proxy

import numpy as np
from torch import Tensor

from footplate.data import length_of
from footplate.engine import Runner
from footplate.openmmlab.first_generation.adapters.model import MMDataParallel, legacy_model_in, of_each_optimizer
from footplate.optim import OptimWrapper
from footplate.records import MessageHub

# Recorded by the engine, but first-generation loggers get these values from `runner.current_lr()`.
_ENGINE_SCALARS = ("lr", "base_lr", "momentum")
_KEPT_COUNTS = 1 << 13
_PRIVATE_COUNTERS = ("_epoch", "_iter", "_inner_iter", "_max_epochs", "_max_iters")
_COUNTERS = (*_PRIVATE_COUNTERS, "epoch", "iter", "max_epochs", "max_iters")
BEST_MESSAGES = ("best_score", "best_ckpt")
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
        output: The averages computed by the latest call to `average`, and values assigned by hooks.
        ready: Whether `output` is ready to be logged.
    """

    def __init__(self, hub: MessageHub, mode: Callable[[], str]) -> None:
        self._hub = hub
        self._mode = mode
        self.ready = False
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
            if mode == self._mode() and name not in _ENGINE_SCALARS and since > 0:
                values = history.data[0][-min(latest or since, since) :]
                own = list(self._counts.get(key, ()))[-len(values) :]
                found.append((name, values, np.array([1.0] * (len(values) - len(own)) + own)))
        return found


def _keep_gradients(wrapper: OptimWrapper) -> None:
    """Replaces `update_params` of a wrapper, so that gradients are kept after the step, where hooks read them."""
    has_stepped = False  # since the gradients were cleared

    def update_params(
        loss: Tensor, step_kwargs: dict[str, Any] | None = None, zero_kwargs: dict[str, Any] | None = None
    ) -> None:
        nonlocal has_stepped
        if has_stepped or wrapper.should_update():  # at the start of an accumulation round
            wrapper.zero_grad(**(zero_kwargs or {}))
            has_stepped = False
        wrapper.backward(wrapper.scale_loss(loss))
        if wrapper.should_update():
            wrapper.step(**(step_kwargs or {}))
            has_stepped = True

    wrapper.update_params = update_params  # type: ignore[method-assign]


_views: WeakKeyDictionary[Runner, "RunnerView"] = WeakKeyDictionary()


def view_of(runner: Runner) -> "RunnerView":
    """Returns the first-generation view of a runner. All hooks of a runner share one view."""
    view = _views.get(runner)
    if view is None:
        view = _views[runner] = RunnerView(runner)
    return view


def existing_view_of(runner: Runner) -> "RunnerView | None":
    """Returns the view of a runner, or None if no hook has used one.

    Does not create a view, because that would make the optimizer wrapper keep gradients after each step.
    """
    return _views.get(runner)


class RunnerView:
    """Adapter that gives a runner the attributes and methods of a first-generation runner.

    All other attributes are read from the runner. Hooks may set attributes on the view to share them with other hooks.

    Args:
        runner: The runner.

    Attributes:
        mode: "train", or "val" during a validation phase of a workflow and while validation metrics are logged.
        inner_iter: The batch index within the epoch.
        data_batch: The current batch.
        outputs: `loss`, `log_vars` and `num_samples` of the latest iteration.
        log_buffer: Collects values to log.
        awaiting_validation: The event that some hooks handle after the next validation run, or "".
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = proxy(runner)
        self.mode = "train"
        self.inner_iter = 0
        self.data_batch: Any = None
        self.outputs: dict[str, Any] = {}
        self.log_buffer = LogBuffer(runner.message_hub, lambda: self.mode)
        self.awaiting_validation = ""
        self._meta: dict[str, Any] = {"exp_name": runner.experiment_name, "seed": runner.seed, "hook_msgs": {}}
        self._event = ""
        self.late_event = ""  # the event that hooks handle after the validation run
        self._saved_rates: dict[str, Any] = {}
        self._validation_loader: Any = None
        self._model = MMDataParallel(runner.unwrapped_model)
        for wrapper in getattr(runner.optim_wrapper, "parts", {}).values():
            if type(wrapper).update_params is OptimWrapper.update_params and "update_params" not in vars(wrapper):
                _keep_gradients(wrapper)

    def __getattr__(self, name: str) -> Any:
        # Some hooks read the counters by their private first-generation names.
        return getattr(self, name[1:]) if name in _PRIVATE_COUNTERS else getattr(self.__dict__["_runner"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if advice := _NOT_REPLACEABLE.get(name):
            raise AttributeError(f"a hook cannot replace runner.{name}; the run would still use the original. {advice}")
        if name not in _COUNTERS:
            super().__setattr__(name, value)
            return
        loop = self._runner.train_loop
        length, done = ("max_epochs", self.epoch) if loop.by_epoch else ("max_iters", self.iter)
        if name.removeprefix("_") != length or value > done + 1:
            raise AttributeError(
                f"a hook cannot set runner.{name}, because the training loop maintains the counters. "
                "To end the run early, set runner.train_loop.stop_training = True."
            )
        loop.stop_training = True

    @property
    def model(self) -> MMDataParallel:
        """The wrapped model; `runner.model.module` is the model without the wrapper."""
        self._model.training = self._model.module.training
        return self._model

    @property
    def meta(self) -> dict[str, Any]:
        """The run's metadata. `hook_msgs` contains `best_score`, `best_ckpt` and messages from hooks."""
        infos = self._runner.message_hub.runtime_info
        best = {name: infos[name] for name in BEST_MESSAGES if name in infos}
        self._meta.setdefault("hook_msgs", {}).update(best)
        return self._meta

    @meta.setter
    def meta(self, value: dict[str, Any]) -> None:
        self._meta = value

    @property
    def iter(self) -> int:
        """The number of completed iterations, not counting the current iteration while its hooks run."""
        return int(self._runner.iter - (self.late_event == "after_train_iter"))

    @property
    def epoch(self) -> int:
        """The number of completed epochs. In an iteration-based run, each pass over the training data is an epoch."""
        if not self._runner.by_epoch:
            return self.iter // self._epoch_length
        return int(self._runner.epoch - (self.late_event == "after_train_epoch"))

    @property
    def max_epochs(self) -> int | None:
        """The length of the run in epochs, or None in an iteration-based run."""
        return self._runner.train_loop.max_epochs if self._runner.by_epoch else None

    @property
    def data_loader(self) -> Any:
        """The dataloader of the current mode."""
        return self._runner.train_dataloader if self.mode == "train" else self._validation_loader

    @property
    def optimizer(self) -> Any:
        """The optimizer, or a dict of optimizers keyed by name if there are several."""
        return of_each_optimizer(self._runner.optim_wrapper, lambda part: part.optimizer)

    @property
    def hooks(self) -> list[Any]:
        """The hooks in order of priority."""
        return list(self._runner.hooks)

    @property
    def _epoch_length(self) -> int:
        return length_of(self._runner.train_dataloader) or 1

    def current_lr(self) -> Any:
        """Returns the learning rate of each parameter group in the current iteration, as a list.

        If there are several optimizers, returns a dict of such lists, keyed by optimizer name.
        """
        return self._current("lr")

    def current_momentum(self) -> Any:
        """Returns the momentum or first beta of each parameter group, in the same form as `current_lr`."""
        return self._current("momentum")

    def register_hook(self, hook: Any, priority: int | str = "NORMAL") -> None:
        """Adds a hook of either generation to the run."""
        self._runner.register_hook(hook, priority)

    def get_hook_info(self) -> str:
        """Returns a table of the hooks for each event."""
        return str(self._runner.hooks.describe())

    def save_checkpoint(
        self,
        out_dir: str,
        filename_tmpl: str = "",
        save_optimizer: bool = True,
        meta: Mapping[str, Any] | None = None,
        create_symlink: bool = True,
    ) -> str:
        """Saves a checkpoint in `out_dir` and returns its path.

        The default for `filename_tmpl` is `epoch_{}.pth` or `iter_{}.pth`. `create_symlink` is ignored.
        """
        number, template = (self.epoch, "epoch_{}.pth") if self._runner.by_epoch else (self.iter, "iter_{}.pth")
        name = (filename_tmpl or template).format(number + 1)
        return str(self._runner.save_checkpoint(out_dir, name, save_optimizer=save_optimizer, meta=meta))

    def set_training_event(self, event: str, arguments: Mapping[str, Any]) -> None:
        """Updates the view from the engine's `arguments` for a training event, before the hooks are called."""
        self.mode, self._event = "train", event
        if "batch_idx" not in arguments:
            return
        self.data_batch = arguments.get("data_batch")
        self.inner_iter = arguments["batch_idx"] % self._epoch_length
        if event == "before_train_iter" and self.inner_iter == 0 and self._runner.train_loop.by_epoch:
            self.log_buffer.clear()
        if "outputs" not in arguments:
            return
        logged, model = arguments["outputs"] or {}, legacy_model_in(self._runner.model)
        if model is not None:
            self.outputs = dict(model.outputs)
        else:
            size = getattr(self._runner.train_dataloader, "batch_size", None)
            self.outputs = {"loss": logged.get("loss"), "log_vars": dict(logged), "num_samples": size or 1}
        if (loss := getattr(self._runner.optim_wrapper, "pending_loss", None)) is not None:
            self.outputs["loss"] = loss

    def set_validation_state(self, loader: Any, inner_iter: int = 0, data_batch: Any = None) -> None:
        """Updates the runner view for a validation phase of a workflow."""
        self.mode, self._event, self._validation_loader = "val", "", loader
        self.inner_iter, self.data_batch = inner_iter, data_batch

    def save_rates(self) -> None:
        """Saves the learning rates and momenta of the current iteration before the schedules change them."""
        self._saved_rates = {"lr": self._read("lr"), "momentum": self._read("momentum")}

    def _current(self, field: str) -> Any:
        if (self._event.startswith("after_train") or self.mode == "val") and field in self._saved_rates:
            return self._saved_rates[field]
        return self._read(field)

    def _read(self, field: str) -> Any:
        return of_each_optimizer(self._runner.optim_wrapper, lambda part: getattr(part, f"get_{field}")()[field])
