"""Replays the iteration at which a run stopped, and records it layer by layer."""

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from footplate import storage
from footplate.checkpoint import load_checkpoint
from footplate.checks import MAX_RUN_LENGTH
from footplate.config import Config
from footplate.distributed import unwrap_model
from footplate.engine import Hook, Runner
from footplate.engine.nonfinite import CAPTURE, SUFFIX, facts_of, nonfinite_weights
from footplate.errors import ArgumentError, NonFiniteError
from footplate.tools.layers import LayerTrace, Reading

_WHOLE_NUMBERS = {
    "iteration": (1, MAX_RUN_LENGTH),
    "seed": (0, (1 << 32) - 1),
    "world_size": (1, 1 << 20),
    "threads": (1, 1024),  # torch allocates memory for each as soon as the number is set
}
_TEXTS = ("message", "device", "torch")
_TEXTS_OR_NONE = ("origin", "load_from")
_LONGEST_TEXT = 1 << 16


@dataclass
class Replay:
    """The record of one replayed iteration.

    Attributes:
        iteration: Its number, counted from 1.
        losses: The values that the train step logged; empty if it did not finish.
        learning_rate: The learning rate of the first parameter group.
        precision: See `LayerTrace`.
        outputs: See `LayerTrace`.
        flowing: See `LayerTrace`.
        gradients: See `LayerTrace`.
        weights_before: The names of non-finite parameters before the iteration.
        weights_after: The names of non-finite parameters after the iteration.
        stopped: The message of the error that stopped the iteration, or "".
        elsewhere: The differences between this environment and that of the run, which may change the result.
    """

    iteration: int
    learning_rate: float = math.nan
    precision: str = "float32"
    losses: dict[str, float] = field(default_factory=dict)
    outputs: list[Reading] = field(default_factory=list)
    flowing: list[Reading] = field(default_factory=list)
    gradients: list[Reading] = field(default_factory=list)
    weights_before: list[str] = field(default_factory=list)
    weights_after: list[str] = field(default_factory=list)
    stopped: str = ""
    elsewhere: str = ""

    @property
    def failed(self) -> bool:
        """Whether a loss, a weight, an output or a gradient is non-finite."""
        losses = not all(map(math.isfinite, self.losses.values()))
        return losses or bool(self.weights_after) or _first(self.outputs + self.gradients) is not None

    @property
    def first_output(self) -> Reading | None:
        """The first non-finite output of a module."""
        return _first(self.outputs)

    @property
    def first_gradient(self) -> Reading | None:
        """The first non-finite gradient of a parameter, in the order of the backward pass."""
        return _first(self.gradients)


def find_capture(path: str) -> str:
    """Returns the path of a capture, given the capture or the folder that contains it.

    Raises:
        ArgumentError: The folder contains no capture, or several.
    """
    try:
        found = [name for name in storage.list_dir(path) if name.endswith(SUFFIX) and not name.startswith(".")]
    except OSError:  # a file, or a missing path; reading it raises the error
        return path
    if len(found) == 1:
        return storage.join(path, found[0])
    what = "several captures" if found else "no capture of a run that stopped at NaN"
    raise ArgumentError(f"'{path}' holds {what}", notes=[f"name one: {', '.join(found)}"] if found else ())


def read_facts(path: str) -> dict[str, Any]:
    """Returns the facts that a capture stores about its run, without executing anything from it.

    Raises:
        ArgumentError: The file is not a capture, or a fact is missing or invalid; the error names its key.
        CheckpointError: The file cannot be read.
    """
    facts = load_checkpoint(path, "meta").get(CAPTURE)
    if not isinstance(facts, Mapping):
        raise ArgumentError(f"'{path}' is no capture of a run that stopped at NaN", notes=["they end with '.capture'"])
    for key in (*_WHOLE_NUMBERS, *_TEXTS, *_TEXTS_OR_NONE):
        if key not in facts:
            raise ArgumentError(f"the capture '{path}' lacks the fact '{key}'", key=f"{CAPTURE}.{key}")
        _check_fact(key, facts[key], path)
    return dict(facts)


def _check_fact(key: str, value: Any, path: str) -> None:
    if key in _WHOLE_NUMBERS:
        least, most = _WHOLE_NUMBERS[key]
        is_good, wanted = type(value) is int and least <= value <= most, f"a whole number from {least} to {most}"
    else:
        is_good = (value is None and key in _TEXTS_OR_NONE) or (isinstance(value, str) and len(value) <= _LONGEST_TEXT)
        wanted = f"a text of at most {_LONGEST_TEXT} characters"
    if not is_good:
        raise ArgumentError(
            f"the fact '{key}' of the capture '{path}' must be {wanted}", key=f"{CAPTURE}.{key}", found=value
        )


def config_beside(path: str) -> str:
    """Returns the path of the config that was saved with a capture."""
    return f"{path.removesuffix(SUFFIX)}.py"


def replay(cfg: Config, path: str, *, iteration: int | None = None) -> Replay:
    """Trains from the state of a capture to an iteration, and records that iteration.

    Runs the real training, with its hooks and validations. Files are written only to a temporary folder, which is
    removed.

    Args:
        cfg: The config of the run.
        path: The capture.
        iteration: The iteration to record, counted from 1. The default is the one that stopped the run.

    Raises:
        ArgumentError: The file is not a capture, or the iteration is not between its state and the end of the run.
    """
    facts = read_facts(path)
    number = iteration if iteration is not None else facts["iteration"]
    with tempfile.TemporaryDirectory(prefix="footplate-replay-") as folder:
        torch.set_num_threads(facts["threads"])
        runner = Runner.from_cfg(_as_replayed(cfg, facts, path, folder))
        watch = _Watch(number)
        runner.register_hook(watch)
        try:
            runner.train()
        except _SeenError:
            pass
        except NonFiniteError as error:
            if watch.found is None:
                raise ArgumentError(f"it stops before iteration {number}: {error.message}", key="iteration") from error
            watch.end(runner, stopped=error.message)
    if watch.found is None:
        raise ArgumentError("the run ends before that iteration", key="iteration", found=number)
    watch.found.elsewhere = _differences(facts, facts_of(runner))
    return watch.found


def _as_replayed(cfg: Config, facts: Mapping[str, Any], path: str, folder: str) -> Config:
    """Changes a config so that the run repeats itself and writes only to a temporary folder."""
    from_state = facts["origin"] is not None
    hooks = {**(cfg.get("default_hooks") or {}), "checkpoint": None, "logger": None}
    changes = {
        "work_dir": folder,
        "resume": from_state,
        "load_from": os.path.abspath(path) if from_state else facts["load_from"],
        "preflight": False,
        "randomness": {**(cfg.get("randomness") or {}), "seed": facts["seed"]},
        "default_hooks": hooks,
        "visualizer": {**(cfg.get("visualizer") or {}), "vis_backends": []},
        "log_level": "ERROR",
    }
    for key, value in changes.items():
        cfg[key] = value
    return cfg


def _differences(before: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    told = [f"{key} {here[key]} instead of {before[key]}" for key in here if before[key] != here[key]]
    return ", ".join(told)


class _SeenError(Exception):
    """Stops the run after the recorded iteration."""


class _Watch(Hook):
    """Records the layers of one iteration and stops the run after it."""

    priority = "HIGHEST"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration
        self.found: Replay | None = None
        self._trace: LayerTrace | None = None

    def before_train(self, runner: Runner) -> None:
        if self.iteration <= runner.iter:
            raise ArgumentError(
                f"the capture begins behind iteration {runner.iter}", key="iteration", found=self.iteration
            )
        if self.iteration > runner.max_iters:
            raise ArgumentError(
                "the run ends before that iteration",
                key="iteration",
                found=self.iteration,
                notes=[f"It ends after iteration {runner.max_iters}."],
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter + 1 != self.iteration:
            return
        model = unwrap_model(runner.model)
        self.found = Replay(self.iteration, weights_before=nonfinite_weights(model))
        rate = next(iter(runner.optim_wrapper.get_lr().values()))[0]
        self.found.learning_rate = math.nan if rate is None else float(rate)  # some optimizers set it themselves
        self._trace = LayerTrace(model)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        if self.found is not None:
            self.end(runner, {name: float(value) for name, value in (outputs or {}).items()})
            raise _SeenError

    def end(self, runner: Runner, losses: dict[str, float] | None = None, *, stopped: str = "") -> None:
        """Stores the record of the iteration."""
        if self.found is None or self._trace is None:
            return
        self._trace.close()
        found, trace = self.found, self._trace
        found.losses, found.stopped, found.precision = losses or {}, stopped, trace.precision
        found.outputs, found.flowing, found.gradients = trace.outputs, trace.flowing, trace.gradients
        found.weights_after = nonfinite_weights(unwrap_model(runner.model))


def _first(readings: list[Reading]) -> Reading | None:
    return next((each for each in readings if not each.finite), None)
