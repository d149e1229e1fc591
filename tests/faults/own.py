"""Runs with user-defined components: samplers, hooks of every priority, counting models, first-generation configs."""

import functools
import itertools
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from footplate.data import batch_plan
from footplate.engine import Hook
from footplate.engine.control.hook_list import HookList
from footplate.engine.run import preflight
from footplate.engine.values.events import EVENTS
from footplate.hooks import CheckpointHook
from footplate.optim import OptimWrapper
from footplate.registry import HOOKS, MODELS
from footplate_openmmlab.first_generation.adapters import Hook as LegacyHook
from tests.faults.processes import nothing, replace_in
from tests.faults.row import Fault
from tests.faults.runs import config
from tests.footplate_openmmlab.first_generation.adapters.support import OldModelWithSteps, old_config
from tests.support import ToyModel, loader
from tests.support_samplers import BY_EPOCH, KINDS, section

_PLAIN: dict[str, Any] = {"by_epoch": True, "endless": False, "workers": 0, "amp": None, "accumulate": 1, "ema": False}
_PLAIN |= {"schedule": "iteration"}
_PRIORITIES = ("HIGHEST", "VERY_HIGH", "HIGH", "ABOVE_NORMAL", "NORMAL", "BELOW_NORMAL", "LOW", "VERY_LOW", "LOWEST")
# The events that occur once, whether or not a run is resumed.
_ONCE = [
    event for event in EVENTS if ("_iter" in event or "_epoch" in event or "_val" in event) and "test" not in event
]
_ONCE.remove("before_train_epoch")


class _Counting:
    """Hashes the events with their iterations, so that different orders give different results."""

    count = 0

    def note(self, event: str, runner: Any) -> None:
        """Records one event."""
        self.count = (self.count * 31 + 7 * _ONCE.index(event) + runner.iter) % 1_000_003

    def state_dict(self) -> dict[str, Any]:
        """Returns the count."""
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the count."""
        self.count = state["count"]


@HOOKS.register_module()
class CountingHook(_Counting, Hook):
    """A hook with state that each event changes."""


@HOOKS.register_module()
class OldCountingHook(_Counting, LegacyHook):
    """The same hook for first-generation configs."""

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.note("after_train_iter", runner)

    def after_train_epoch(self, runner: Any) -> None:
        self.note("after_train_epoch", runner)


def _noting(event: str) -> Callable[..., None]:
    return lambda self, runner, **arguments: self.note(event, runner)


for _event in _ONCE:
    setattr(CountingHook, _event, _noting(_event))


@MODELS.register_module()
class CountingModel(ToyModel):
    """Counts its passes in buffers, including validation, and uses the counts in training."""

    passes: Tensor
    mean: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        self.passes = self.passes + 1
        self.mean.mul_(0.9).add_(inputs.detach().mean(0), alpha=0.1)
        inputs = self.norm(inputs) + self.mean + 0.01 * self.passes
        return super().forward(inputs, labels, mode)


@MODELS.register_module()
class OldCountingModel(OldModelWithSteps):
    """The same model for first-generation configs."""

    passes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, img: Tensor, label: Any = None, return_loss: bool = True) -> Any:
        self.passes += 1
        return super().forward(img + 0.01 * self.passes, label, return_loss)


def samplers(work_dir: Path, number: int) -> dict[str, Any]:
    """Returns a config with a user-defined sampler: each kind, by epoch or iteration, with and without workers."""
    name, by_epoch, workers = _SAMPLERS[number]
    cfg = config(work_dir, {**_PLAIN, "by_epoch": by_epoch})
    data = loader(num_workers=workers, **section(name))
    for key in ("sampler", "batch_size") if "Batches" in name else ():
        del data[key]
    return {**cfg, "train_dataloader": data}


def priorities(work_dir: Path, number: int) -> dict[str, Any]:
    """Returns a config with stateful hooks of every priority, some with averaged weights."""
    priority, by_epoch, interval = _ORDERS[number]
    cfg = config(work_dir, {**_PLAIN, "by_epoch": by_epoch})
    hooks = [{"type": "CountingHook", "priority": each} for each in _PRIORITIES]
    average = {"type": "EMAHook", "momentum": 0.1, "priority": priority}
    saves: dict[str, Any] = {
        "by_epoch": interval is None,
        "interval": interval or 1,
        "save_best": "accuracy",
        "max_keep_ckpts": 3,
    }
    if interval is None and not by_epoch:
        saves |= {"by_epoch": False, "interval": 4}
    return {**cfg, "custom_hooks": [*hooks, average], "default_hooks": {"logger": None, "checkpoint": saves}}


def buffers(work_dir: Path, number: int) -> dict[str, Any]:
    """Returns a config of a model that counts, with a preflight."""
    by_epoch, ema, interval = _BUFFERS[number]
    cfg = config(work_dir, {**_PLAIN, "by_epoch": by_epoch, "ema": ema})
    cfg["default_hooks"]["checkpoint"]["interval"] = interval
    return {**cfg, "model": {"type": "CountingModel", "dropout": 0.3}, "preflight": True}


def legacy(work_dir: Path, number: int) -> dict[str, Any]:
    """Returns a first-generation config."""
    by_epoch, step, validation, priority = _LEGACY[number]
    changes: dict[str, Any] = {"workflow": [("train", 1)]}
    if validation == "workflow":
        changes["workflow"] = [("train", 1 if by_epoch else 4), ("val", 1)]
    elif validation:
        changes["evaluation"] = {"interval": 1 if by_epoch else 4, "save_best": validation, "by_epoch": by_epoch}
    hooks: list[dict[str, Any]] = [
        {"type": "OldCountingHook", "priority": each} for each in ("HIGH", "NORMAL", "LOWEST")
    ]
    hooks.append({"type": "EMAHook", "momentum": 0.1, "interval": 1, "priority": priority})
    saves: dict[str, Any] = (
        {"interval": 2, "by_epoch": False} if priority == "LOWEST" else {"interval": 1 if by_epoch else 3}
    )
    return old_config(
        work_dir,
        by_epoch=by_epoch,
        model={"type": "OldCountingModel"},
        custom_hooks=hooks,
        checkpoint_config=saves,
        log_level="ERROR",
        auto_resume=True,
        **_STEPS[step],
        **changes,
    )


_SAMPLERS = [
    (name, by_epoch, workers)
    for workers, by_epoch, name in itertools.product((0, 2), (False, True), KINDS)
    if not by_epoch or name in BY_EPOCH
]
_ORDERS = list(itertools.product(_PRIORITIES, (True, False), (None, 2)))
_BUFFERS = list(itertools.product((True, False), (True, False), (1, 2)))
_STEPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rounds": {"optimizer_config": {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 3}},
    "half": {"fp16": {"loss_scale": 512.0}},
}
_LEGACY = list(itertools.product((True, False), _STEPS, ("", "workflow", "accuracy"), ("HIGH", "NORMAL", "LOWEST")))


def _at_once() -> None:
    CheckpointHook.acts_last = False
    CheckpointHook.priority = "NORMAL"
    whole = HookList.register

    def register(self: HookList, hook: Any, priority: Any = None, **names: Any) -> None:
        whole(self, hook, "HIGHEST" if isinstance(hook, CheckpointHook) else priority, **names)

    HookList.register = register  # type: ignore[method-assign]
    for event in ("after_train_iter", "after_train_epoch"):
        setattr(CheckpointHook, event, _saving_at_once(getattr(CheckpointHook, event)))


def _saving_at_once(method: Any) -> Any:
    @functools.wraps(method)
    def save(self: CheckpointHook, runner: Any, *args: Any, **arguments: Any) -> None:
        method(self, runner, *args, **arguments)
        runner.boundary.start_saves()

    return save


def _without_hooks() -> None:
    for kind in (CountingHook, OldCountingHook):
        kind.load_state_dict = nothing  # type: ignore[method-assign]


def _without_buffers() -> None:
    whole = nn.Module.state_dict

    def part(self: Any, *args: Any, **settings: Any) -> Any:
        found = whole(self, *args, **settings)
        return type(found)((key, value * 0 if key.endswith("passes") else value) for key, value in found.items())

    nn.Module.state_dict = part  # type: ignore[method-assign]


def _without_repetition() -> None:
    begin = batch_plan.BatchPlan.begin

    def without_earlier(self: Any, epoch: int) -> None:
        self._begun_passes = max(self._begun_passes, epoch)
        begin(self, epoch)

    batch_plan.BatchPlan.begin = without_earlier  # type: ignore[method-assign]


def _from_the_run() -> None:
    replace_in(batch_plan, "with_separate_generators", lambda iterator, *seeds: iterator)


def _traces() -> None:
    preflight._restoring_state = nullcontext  # type: ignore[assignment]


def _optimizer() -> None:
    OptimWrapper.load_state_dict = nothing  # type: ignore[method-assign]


SAMPLERS: dict[str, Fault] = {
    "earlier passes are not repeated": _without_repetition,
    "samplers draw from the generators of the run": _from_the_run,
}
PRIORITIES: dict[str, Fault] = {
    "a checkpoint is saved before other hooks act": _at_once,
    "states of hooks are not restored": _without_hooks,
}
BUFFERS: dict[str, Fault] = {
    "the preflight leaves its traces": _traces,
    "a buffer is not saved": _without_buffers,
}
LEGACY: dict[str, Fault] = {
    "a checkpoint is saved before other hooks act": _at_once,
    "the optimizer is not restored": _optimizer,
}
STOPS = (signal.SIGKILL, signal.SIGTERM)
COUNTS = {samplers: len(_SAMPLERS), priorities: len(_ORDERS), buffers: len(_BUFFERS), legacy: len(_LEGACY)}
