"""Replays the iteration that stopped a run, and describes the outputs and gradients layer by layer."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from footplate.checkpoint import load_checkpoint
from footplate.config import Config
from footplate.distributed import unwrap_model
from footplate.engine import Hook, Runner
from footplate.engine.checking.plan import second_generation
from footplate.engine.saving.captures import CAPTURE, SUFFIX, facts_of
from footplate.engine.stopping.requests import EarlyExitError
from footplate.errors import ArgumentError, NonFiniteError
from footplate.interrupts import temporary_folder
from footplate.messages import one_line
from footplate.tools.memory_use import tensors_in
from footplate.tools.trial import build_trial, train_until_stopped

_ROWS_BEFORE = 5  # rows to show before the first non-finite one


class Reading(NamedTuple):
    """Statistics of one tensor, which is the output of a layer or the gradient of a parameter."""

    name: str
    kind: str  # the module's class and the path of the tensor in its output, or "gradient"
    dtype: str
    shape: tuple[int, ...]
    nonfinite: str  # the numbers of NaN and infinite entries, or "" if all entries are finite
    low: float  # the minimum of the finite entries, NaN if none exist
    high: float  # the maximum


@dataclass
class Replay:
    """The outputs, gradients and losses of one replayed iteration."""

    iteration: int  # counted from 1
    # The outputs of modules, then the gradients of parameters, in order of computation. Inner modules come first.
    readings: list[Reading] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)  # empty if the step failed
    stopped: str = ""  # the message of the error that stopped the iteration, or ""
    differences: str = ""  # how this environment differs from the environment of the run, which may change the result

    @property
    def first_nonfinite(self) -> Reading | None:
        """The first reading that contains non-finite values, or None."""
        return next((reading for reading in self.readings if reading.nonfinite), None)

    @property
    def failed(self) -> bool:
        """Whether the iteration failed, or a loss, an output or a gradient is non-finite."""
        return bool(self.stopped or self.first_nonfinite) or not all(map(math.isfinite, self.losses.values()))


def read_capture(path: str) -> tuple[str, dict[str, Any]]:
    """Reads a capture's metadata, such as the iteration and the seed. Executes no code.

    Args:
        path: The capture, or a folder that contains one.

    Returns:
        The path of the capture, and its metadata.

    Raises:
        ArgumentError: There is no capture, or the folder contains several.
        CheckpointError: The file cannot be read.
    """
    if os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.endswith(SUFFIX))
        if len(names) != 1:
            notes = [f"Choose one: {', '.join(names)}" if names else f"It contains no file with the suffix '{SUFFIX}'."]
            raise ArgumentError(f"'{path}' must contain one capture of a non-finite iteration", notes=notes)
        path = os.path.join(path, names[0])
    content = load_checkpoint(path, "meta")
    if CAPTURE not in content:
        notes = ["The names of captures end in '.capture'."]
        raise ArgumentError(f"'{path}' is not a capture of a non-finite iteration", notes=notes)
    return path, content[CAPTURE]


def replay(cfg: Config, path: str, facts: Mapping[str, Any]) -> Replay:
    """Repeats the iteration that stopped a run, and records it.

    Trains from the checkpoint in the capture up to this iteration, or from the start if it contains no checkpoint.
    Validation and hooks run as in training, except the default hooks for checkpoints and log lines. Files are
    written only to a temporary folder, which is removed at the end. The number of torch threads is set to the number in
    the capture.

    Args:
        cfg: The config of the run, of either generation. It is not changed.
        path: The path of the capture.
        facts: The facts from the capture; see `read_capture`.

    Raises:
        NonFiniteError: The run stops before it reaches the iteration.
    """
    cfg = second_generation(cfg)
    is_resumed = facts["origin"] is not None
    recorder = _RecorderHook(facts["iteration"])
    torch.set_num_threads(facts["threads"])
    with temporary_folder("footplate-replay-") as folder:
        runner = build_trial(
            cfg,
            folder,
            resume=is_resumed,
            load_from=os.path.abspath(path) if is_resumed else facts["load_from"],
            preflight=False,
            randomness={**(cfg.get("randomness") or {}), "seed": facts["seed"]},
            default_hooks={**(cfg.get("default_hooks") or {}), "checkpoint": None, "logger": None},
            log_level="ERROR",
        )
        train_until_stopped(runner, recorder)
    changed = [f"{key} {here} instead of {facts[key]}" for key, here in facts_of(runner).items() if facts[key] != here]
    recorder.record.differences = ", ".join(changed)
    return recorder.record


class _RecorderHook(Hook):
    """Records the outputs and gradients of all layers in one iteration, then stops the run."""

    priority = "HIGHEST"

    def __init__(self, iteration: int) -> None:
        self.record = Replay(iteration)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter + 1 != self.record.iteration:
            return
        record_layers(unwrap_model(runner.model), self.record)
        train_step = runner.model.train_step

        def step(*args: Any, **kwargs: Any) -> Any:
            try:
                return train_step(*args, **kwargs)
            except NonFiniteError as error:  # expected, so no rank should report a failure
                self.record.stopped = error.message
                raise EarlyExitError from error

        runner.model.train_step = step

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == self.record.iteration:
            self.record.losses = {name: float(value) for name, value in (outputs or {}).items()}
            raise EarlyExitError


def record_layers(model: nn.Module, record: Replay) -> None:
    """Registers model hooks that add module outputs and parameter gradients to `record`."""

    def read(tensor: Tensor, name: str, kind: str) -> None:
        values = tensor.detach().to_dense()
        finite = values[values.isfinite()]
        low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (math.nan, math.nan)
        counts = ((int(values.isnan().sum()), "NaN"), (int(values.isinf().sum()), "inf"))
        nonfinite = ", ".join(f"{count} of {values.numel()} {what}" for count, what in counts if count)
        dtype = str(values.dtype).removeprefix("torch.")
        record.readings.append(Reading(name, kind, dtype, tuple(values.shape), nonfinite, low, high))

    def on_output(name: str, module: nn.Module, _: Any, output: Any) -> None:
        for key, tensor in tensors_in(output):
            if tensor.is_floating_point():
                read(tensor, name or "(model)", f"{type(module).__name__}{key}")

    def on_gradient(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        read(parameter.grad, name, "gradient")

    for name, module in model.named_modules():
        module.register_forward_hook(partial(on_output, name))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            register: Any = parameter.register_post_accumulate_grad_hook  # torch declares no types
            register(partial(on_gradient, name))


def describe_replay(record: Replay, *, whole: bool = False) -> str:
    """Formats the last readings up to the first non-finite one as a table, or all readings if `whole` is set."""
    first = record.first_nonfinite
    end = record.readings.index(first) + 1 if first else len(record.readings)
    shown = record.readings if whole else record.readings[max(end - 1 - _ROWS_BEFORE, 0) : end]
    rows = [("output or gradient of", "kind", "dtype", "shape", "finite", "min", "max")]
    for name, kind, dtype, shape, nonfinite, low, high in shown:
        size = "x".join(map(str, shape)) or "-"
        rows.append((name, kind, dtype, size, nonfinite or "yes", f"{low:.4g}", f"{high:.4g}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    losses = ", ".join(f"{name} {value:g}" for name, value in record.losses.items()) or "no losses"
    lines = [f"iteration {record.iteration}: {losses}", ""]
    lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    left = len(record.readings) - len(shown)
    lines += [f"... {left} more; --all shows them", ""] if left else [""]
    lines += [f"stopped: {record.stopped}"] if record.stopped else []
    if record.differences:
        lines.append(f"differences from the run, which may change the result: {one_line(record.differences)}")
    result = f"all values of iteration {record.iteration} are finite: the failure could not be reproduced"
    if first:
        result = f"first non-finite value: {first.name} ({first.kind}), {first.nonfinite}"
    elif record.failed:
        result = "all outputs and gradients are finite"
    return "\n".join([*lines, result, ""])
