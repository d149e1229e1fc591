"""Measures the time that each part of a training iteration takes, and derives advice from it."""

import inspect
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import nn

from footplate.checks import MAX_RUN_LENGTH, check_count
from footplate.config import Config
from footplate.distributed import gather_objects, unwrap_model
from footplate.engine import Runner
from footplate.engine.signals import EarlyExitError
from footplate.error_context import located
from footplate.errors import DataError
from footplate.interrupts import temporary_folder
from footplate.messages import labeled
from footplate.optim.wrappers import AmpOptimWrapper
from footplate.tools.partial_build import build_trial

PARTS = ("data", "transfer", "forward", "backward", "optimizer", "hooks")
_WARM_UP = 3  # iterations
_MAX_HOOKS = 4  # in the text
_EVENTS = ("before_train_epoch", "before_train_iter", "after_train_iter", "after_train_epoch")
# The shares of an iteration above which the profile gives advice.
_DATA, _TRANSFER, _OPTIMIZER, _HOOKS, _COMPUTATION = 0.1, 0.1, 0.1, 0.05, 0.8


class IterationProfile(NamedTuple):
    """The durations of the parts of an iteration in seconds, averaged over iterations and processes.

    Attributes:
        device: The kind of device.
        iterations: The number of measured iterations.
        parts: The seconds spent in each part of `PARTS`.
        hooks: The seconds spent in each hook, by class name, longest first.
        advice: Suggestions for making an iteration faster, each with one or two sentences.
    """

    device: str
    iterations: int
    parts: dict[str, float]
    hooks: dict[str, float]
    advice: list[str]

    @property
    def seconds(self) -> float:
        """The duration of an iteration in seconds."""
        return sum(self.parts.values())

    def as_data(self) -> dict[str, Any]:
        """Returns the profile as a JSON-serializable dict."""
        return {**self._asdict(), "seconds": self.seconds}

    def __str__(self) -> str:
        lines = [f"{self.iterations} iterations on {self.device}, {_shown(self.seconds)} each", ""]
        rows = [(name, _shown(value), f"{100 * value / self.seconds:.1f} %") for name, value in self.parts.items()]
        lines += [f"{name:<10}  {value:>9}  {share:>7}" for name, value, share in [("part", "time", "share"), *rows]]
        slowest = [f"{name} {_shown(value)}" for name, value in list(self.hooks.items())[:_MAX_HOOKS]]
        lines += ["", labeled("hooks", ", ".join(slowest))] if slowest else [""]
        return "\n".join([*lines, *(labeled("advice", each) for each in self.advice)]) + "\n"


def profile_iterations(cfg: Config, *, iterations: int = 20) -> IterationProfile:
    """Trains a few iterations on real data and measures their parts. Leaves no files, and does not validate.

    On an accelerator, the device is synchronized before and after each part. This slows down iterations in which work
    on the host and on the device would otherwise overlap.

    Args:
        cfg: The result of `check_config`.
        iterations: The number of iterations to measure, after three warm-up iterations.

    Raises:
        DataError: The run ends during the warm-up.
        FootplateError: The run cannot be built or trained.
    """
    check_count("--iters", iterations)
    with temporary_folder("footplate-profile-") as folder, located(cfg):
        runner = build_trial(cfg, folder, load_from=None)
        recorder = _Recorder(runner, iterations)
        with suppress(EarlyExitError):
            runner.train()
        if recorder.iterations <= 0:
            raise DataError(
                f"the run ends during the {_WARM_UP} warm-up iterations",
                key="train_cfg",
                notes=["Set a longer run, for example with `--set train_cfg.max_epochs=10`."],
            )
        ranks = gather_objects({name: value / recorder.iterations for name, value in recorder.seconds.items()})
        seconds = {name: sum(rank.get(name, 0.0) for rank in ranks) / len(ranks) for name in ranks[0]}
        totals = {name: seconds.pop(name, 0.0) for name in PARTS}
        totals["hooks"] = sum(seconds.values())  # the other names are those of hooks
        totals["data"] -= sum(totals.values()) - totals["data"]  # the time outside of all measured functions
        hooks = dict(sorted(seconds.items(), key=lambda item: -item[1]))
        advice = list(_advice(runner, totals, hooks))
    return IterationProfile(runner.device.type, recorder.iterations, totals, hooks, advice)


class _Recorder:
    """Measures the methods of a run that are called in a training iteration.

    Args:
        runner: The run. Its loop, model, optimizer wrapper and hooks are changed.
        most: The number of iterations to measure, after which the run ends.

    Attributes:
        iterations: The number of measured iterations.
        seconds: The seconds spent in each part and in each hook, without those of inner functions. "data" includes
            all other parts.
    """

    def __init__(self, runner: Runner, most: int) -> None:
        self.iterations = -_WARM_UP
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._is_asynchronous = runner.device.type != "cpu"
        self._most, self._since = most, 0.0
        self._inner: list[float] = []  # the seconds of the functions within each open one
        model: Any = runner.model
        model.train_step = self._timed("forward", model.train_step)
        preprocessor = getattr(unwrap_model(model), "data_preprocessor", None)
        if isinstance(preprocessor, nn.Module):
            preprocessor.forward = self._timed("transfer", preprocessor.forward)
        for wrapper in runner.optim_wrapper.parts.values():
            for part, methods in (("backward", ("update_params", "backward")), ("optimizer", ("step", "zero_grad"))):
                for method in methods:
                    setattr(wrapper, method, self._timed(part, getattr(wrapper, method)))
        # The loop calls the methods in these lists.
        for event in _EVENTS:
            listeners = runner.hooks.at(event)
            owners = [getattr(each, "__self__", None) for each in listeners]
            names = ["others" if owner is None else type(owner).__name__ for owner in owners]
            listeners[:] = [self._timed(name, each) for each, name in zip(listeners, names, strict=True)]
        runner.hooks.at("before_train").append(self._begin)
        runner.hooks.at("after_train_iter").append(self._end_iteration)

    def now(self) -> float:
        """Waits until the device has finished its work, and returns the time."""
        if self._is_asynchronous:
            torch.accelerator.synchronize()
        return time.perf_counter()

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begin = self.now()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = self.now() - begin
                self.seconds[name] += elapsed - self._inner.pop()
                if self._inner:
                    self._inner[-1] += elapsed

        return call

    def _begin(self, runner: Runner) -> None:
        loop: Any = runner.train_loop
        loop.val_begin = MAX_RUN_LENGTH  # never validates

    def _end_iteration(self, *_: Any, **__: Any) -> None:
        now = self.now()
        self.iterations += 1
        if self.iterations <= 0:
            self.seconds.clear()
        else:
            self.seconds["data"] += now - self._since
        self._since = now
        if self.iterations == self._most:
            raise EarlyExitError


def _advice(runner: Runner, parts: Mapping[str, float], hooks: Mapping[str, float]) -> Iterator[str]:
    """Yields suggestions for making an iteration faster."""
    total = sum(parts.values())
    share = {name: value / total for name, value in parts.items()}
    if share["data"] >= _DATA:
        workers = getattr(runner.train_dataloader, "num_workers", None)
        if workers is None:
            advice = "The run reads from a custom iterable: load its batches in advance."
        elif workers == 0:
            advice = "Set `train_dataloader.num_workers=2` to load batches in worker processes."
        else:
            advice = f"Use more than {workers} workers, or simplify the pipeline."
        yield f"{_percent(share['data'])} of the time is spent waiting for data. {advice}"
    if share["transfer"] >= _TRANSFER:
        where = f"{_percent(share['transfer'])} of the time is spent in the data preprocessor."
        if runner.device.type == "cpu":
            yield f"{where} Move its computations to the dataset, whose workers run in parallel."
        else:
            yield (
                f"{where} Set `train_dataloader.pin_memory=True` and `non_blocking=True` in the data preprocessor, so "
                "that batches are copied during computation."
            )
    if share["optimizer"] >= _OPTIMIZER:
        can_fuse = any(
            "fused" in inspect.signature(type(part.optimizer)).parameters
            and not any(group.get("fused") for group in part.optimizer.param_groups)
            for part in runner.optim_wrapper.parts.values()
        )
        advice = "Set `optim_wrapper.compile=True`, or use an optimizer with a fused kernel."
        if can_fuse:
            advice = "Set `optim_wrapper.optimizer.fused=True`."
        yield f"{_percent(share['optimizer'])} of the time is spent in the optimizer. {advice}"
    if share["hooks"] >= _HOOKS and hooks:
        name = next(iter(hooks))
        yield (
            f"{_percent(share['hooks'])} of the time is spent in hooks, most of it in {name}. Raise its interval, or "
            "remove it."
        )
    if share["forward"] + share["backward"] >= _COMPUTATION:
        is_mixed = any(isinstance(each, AmpOptimWrapper) for each in runner.optim_wrapper.parts.values())
        options = ["`compile=True`"] if is_mixed else ["`optim_wrapper.type='AmpOptimWrapper'`", "`compile=True`"]
        yield (
            f"{_percent(share['forward'] + share['backward'])} of the time is spent in the model. To make it faster, "
            f"try {' and '.join(options)}."
        )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _shown(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
