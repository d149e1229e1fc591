"""Measures how long each part of a training iteration takes, and suggests how to make it faster."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from footplate.checks import check_count
from footplate.config import Config
from footplate.distributed import gather_objects, unwrap_model
from footplate.engine import Runner
from footplate.error_context import located
from footplate.errors import DataError
from footplate.interrupts import temporary_folder
from footplate.messages import labeled, pluralize
from footplate.optim.wrappers import AmpOptimWrapper
from footplate.tools.partial_build import StopHook, build_trial, train_until_stopped

PARTS = ("data", "transfer", "forward", "backward", "optimizer", "hooks")
_WARM_UP = 3  # iterations
Seconds = dict[str, float]  # by the name of a part or a hook
_MAX_HOOKS = 4  # in the text
_EVENTS = ("before_train_epoch", "before_train_iter", "after_train_iter", "after_train_epoch")
# Advice is given for parts that exceed these shares of an iteration.
_PART, _HOOKS, _COMPUTATION = 0.1, 0.05, 0.8


class IterationProfile(NamedTuple):
    """The duration of each part of an iteration, averaged over iterations and processes.

    Attributes:
        device: The device type, such as "cuda".
        iterations: The number of measured iterations.
        parts: The seconds spent in each part of `PARTS`.
        hooks: The seconds spent in each hook, by class name, longest first.
        advice: Suggestions for making an iteration faster, one or two sentences each.
    """

    device: str
    iterations: int
    parts: Seconds
    hooks: Seconds
    advice: list[str]

    @property
    def seconds(self) -> float:
        """The duration of an iteration in seconds."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        rows = [(name, _shown(value), f"{100 * value / self.seconds:.1f} %") for name, value in self.parts.items()]
        slowest = [f"{name} {_shown(value)}" for name, value in list(self.hooks.items())[:_MAX_HOOKS]]
        lines = [f"{pluralize(self.iterations, 'iteration')} on {self.device}, {_shown(self.seconds)} each", ""]
        lines += [f"{name:<10}  {value:>9}  {share:>7}" for name, value, share in [("part", "time", "share"), *rows]]
        lines += ["", *([labeled("hooks", ", ".join(slowest))] if slowest else [])]
        return "\n".join([*lines, *(labeled("advice", text) for text in self.advice)]) + "\n"


def profile_iterations(cfg: Config, *, iterations: int = 20) -> IterationProfile:
    """Trains for a few iterations on real data and times their parts. Does not validate or leave any files.

    On an accelerator, each part begins and ends with a synchronization, so the host and the device do not work in
    parallel. The iterations may therefore be slower than in training.

    Args:
        cfg: The result of `check_config` or `runner_config`.
        iterations: The number of iterations to measure, after three warm-up iterations.

    Raises:
        DataError: The run ends before the first iteration after the warm-up.
        FootplateError: The run cannot be built or trained.
    """
    check_count("--iters", iterations)
    with temporary_folder("footplate-profile-") as folder, located(cfg):
        runner = build_trial(cfg, folder, load_from=None)
        recorder = _Recorder(iterations)
        train_until_stopped(runner, recorder)
        measured = recorder.measured
        if measured <= 0:
            raise DataError(
                f"the run ends before the first measured iteration, which follows {_WARM_UP} warm-up iterations",
                key="train_cfg",
                notes=["Train for more epochs or iterations."],
            )
        ranks = gather_objects(dict(recorder.seconds))
    seconds = {name: sum(rank.get(name, 0.0) for rank in ranks) / len(ranks) / measured for name in ranks[0]}
    parts = {name: seconds.pop(name, 0.0) for name in PARTS}
    parts["hooks"] = sum(seconds.values())  # the remaining names belong to hooks
    parts["data"] -= sum(parts.values()) - parts["data"]  # the time outside of all measured functions
    hooks = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    return IterationProfile(runner.device.type, measured, parts, hooks, list(_advice(runner, parts, hooks)))


class _Recorder(StopHook):
    """Measures the time spent in the methods that a run calls in a training iteration.

    Attributes:
        measured: The number of measured iterations, negative during the warm-up.
        seconds: The seconds spent in each part and in each hook, excluding nested measured calls. "data" first contains
            the total time, from which the other parts are subtracted later.
    """

    def __init__(self, iterations: int) -> None:
        super().__init__(_WARM_UP + iterations)
        self.measured = -_WARM_UP
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._is_asynchronous = False
        self._since = 0.0
        self._inner: list[float] = []  # for each running call, the seconds spent in nested measured calls

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self._is_asynchronous = runner.device.type != "cpu"
        model: Any = runner.model
        methods = [("forward", model, "train_step")]
        preprocessor = getattr(unwrap_model(model), "data_preprocessor", None)
        if isinstance(preprocessor, nn.Module):
            methods.append(("transfer", preprocessor, "forward"))
        for wrapper in runner.optim_wrapper.parts.values():
            methods += [("backward", wrapper, name) for name in ("update_params", "backward")]
            methods += [("optimizer", wrapper, name) for name in ("step", "zero_grad")]
        for part, owner, name in methods:
            setattr(owner, name, self._timed(part, getattr(owner, name)))
        # The loop calls the methods in these lists.
        for event in _EVENTS:
            listeners = runner.hooks.at(event)
            for place, (hook, method) in enumerate(listeners):
                if hook is not self:
                    listeners[place] = hook, self._timed(type(hook).__name__, method)

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

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        now = self.now()
        self.measured += 1
        if self.measured <= 0:
            self.seconds.clear()
        else:
            self.seconds["data"] += now - self._since
        self._since = now
        super().after_train_iter(runner, batch_idx, data_batch, outputs)


def _advice(runner: Runner, parts: Seconds, hooks: Seconds) -> Iterator[str]:
    """Yields suggestions for making an iteration faster."""
    shares = {name: value / sum(parts.values()) for name, value in parts.items()}
    shares["model"] = shares["forward"] + shares["backward"]
    spent = {name: f"{100 * share:.0f} % of the time is spent" for name, share in shares.items()}
    wrappers = list(runner.optim_wrapper.parts.values())
    if shares["data"] >= _PART:
        workers = getattr(runner.train_dataloader, "num_workers", 0)
        advice = f"Set `train_dataloader.num_workers={workers + 2}`, or simplify the pipeline."
        yield f"{spent['data']} waiting for data. {advice}"
    if shares["transfer"] >= _PART:
        advice = "Check that it has `non_blocking=True`, and that `train_dataloader.pin_memory` is True."
        if runner.device.type == "cpu":
            advice = "Move its computations to the dataset, whose workers run in parallel."
        yield f"{spent['transfer']} in the data preprocessor. {advice}"
    if shares["optimizer"] >= _PART:
        advice = "Use an optimizer with a fused kernel."
        if not all(wrapper.optimizer.defaults.get("fused", True) for wrapper in wrappers):
            advice = "Set `optim_wrapper.optimizer.fused=True`."
        yield f"{spent['optimizer']} in the optimizer. {advice}"
    if shares["hooks"] >= _HOOKS:
        yield f"{spent['hooks']} in hooks, above all in {next(iter(hooks))}. Increase its interval, or remove it."
    if shares["model"] >= _COMPUTATION:
        is_mixed = any(isinstance(wrapper, AmpOptimWrapper) for wrapper in wrappers)
        options = [] if is_mixed else ["`optim_wrapper.type='AmpOptimWrapper'`"]
        options += [] if runner.cfg.get("compile") else ["`compile=True`"]
        if options:
            yield f"{spent['model']} in the model. {' and '.join(options)} can make it faster."


def _shown(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
