"""Replays the iteration at which a run failed, records its outputs and gradients layer by layer, and describes them."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from footplate import storage
from footplate.checkpoint import load_checkpoint
from footplate.checks import MAX_RUN_LENGTH
from footplate.config import Config
from footplate.distributed import unwrap_model
from footplate.engine import Hook, Runner
from footplate.engine.nonfinite import CAPTURE, SUFFIX, facts_of, nonfinite_weights
from footplate.engine.run_config import runner_config
from footplate.engine.signals import EarlyExitError
from footplate.errors import ArgumentError, NonFiniteError
from footplate.interrupts import temporary_folder
from footplate.messages import list_names, one_line
from footplate.tools.memory_use import tensors_in
from footplate.tools.partial_build import build_trial

# Maps each fact in a capture to the range of an integer, or, for a string, to whether it may be None.
_FACTS: dict[str, range | bool] = {
    "iteration": range(1, MAX_RUN_LENGTH + 1),
    "seed": range(1 << 32),
    "world_size": range(1, (1 << 20) + 1),
    "threads": range(1, 1025),  # torch allocates memory for every thread
    **dict.fromkeys(("message", "device", "torch"), False),
    **dict.fromkeys(("origin", "load_from"), True),
}
_MAX_LENGTH = 1 << 16  # characters

_SHORT_TABLE = 12  # tables with at most this many rows are shown in full
_ROWS_BEFORE = 5  # rows to show before the first non-finite layer


@dataclass(frozen=True)
class Reading:
    """Statistics of one tensor: the output of a layer or a gradient."""

    name: str  # the name of the module or parameter; "(model)" for the whole model
    kind: str  # the module's class and the path of the tensor in its output, or "gradient" for a parameter
    dtype: str
    shape: tuple[int, ...]
    nans: int  # the number of NaN entries
    infinities: int  # the number of infinite entries
    low: float  # the minimum of the finite entries, NaN if there are none
    high: float  # the maximum of the finite entries, NaN if there are none
    notes: str = ""  # for a non-finite output, whether the module's inputs and weights were finite

    @property
    def finite(self) -> bool:
        """Whether all entries are finite."""
        return not self.nans and not self.infinities

    @classmethod
    def of(cls, tensor: Tensor, name: str, kind: str, notes: str = "") -> "Reading":
        """Returns the statistics of a real or complex tensor. `low` and `high` cover real and imaginary parts."""
        values = tensor.detach()
        finite = values[values.isfinite()]
        finite = torch.view_as_real(finite) if finite.is_complex() else finite
        low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (float("nan"), float("nan"))
        return cls(
            name=name or "(model)",
            kind=kind,
            dtype=str(values.dtype).removeprefix("torch."),
            shape=tuple(values.shape),
            nans=int(values.isnan().sum()),
            infinities=int(values.isinf().sum()),
            low=low,
            high=high,
            notes=notes,
        )


class LayerTrace:
    """Records the outputs of modules and the gradients of outputs and parameters, in the order of computation.

    Args:
        model: The model. `close` removes all hooks from it.

    Attributes:
        outputs: The outputs of modules. Inner modules come before the modules that contain them.
        flowing: The gradients of these outputs, from the last to the first.
        gradients: The gradients of parameters, read as soon as the backward pass has accumulated them.
        precision: "autocast to ..." with the dtype, or "float32" without autocast.
    """

    def __init__(self, model: nn.Module) -> None:
        self.outputs: list[Reading] = []
        self.flowing: list[Reading] = []
        self.gradients: list[Reading] = []
        self.precision = "float32"
        self._handles: list[Any] = []
        for name, module in model.named_modules():
            self._handles.append(module.register_forward_hook(partial(self._on_output, name), with_kwargs=True))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                record = partial(self._record, self.gradients, name, "gradient")
                register: Any = parameter.register_post_accumulate_grad_hook  # torch declares no types
                self._handles.append(register(lambda each, record=record: record(each.grad)))

    def close(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _on_output(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        for key, tensor in readable_tensors(output):
            kind, device = f"{type(module).__name__}{key}", tensor.device.type
            if torch.is_autocast_enabled(device):
                self.precision = f"autocast to {str(torch.get_autocast_dtype(device)).removeprefix('torch.')}"
            notes = ""
            if not tensor.isfinite().all():
                sources = {
                    "inputs": [each for _, each in readable_tensors((args, kwargs))],
                    "weights": module.parameters(False),
                }
                finite = {source: [bool(each.isfinite().all()) for each in found] for source, found in sources.items()}
                notes = ", ".join(
                    f"{source} {'finite' if all(found) else 'non-finite'}"
                    for source, found in finite.items()
                    if found or source == "inputs"
                )
            self.outputs.append(Reading.of(tensor, name, kind, notes))
            if tensor.requires_grad:
                record = partial(self._record, self.flowing, name, kind)
                tensor.register_hook(record)  # type: ignore[no-untyped-call]

    def _record(self, readings: list[Reading], name: str, kind: str, gradient: Tensor) -> None:
        values = gradient.coalesce().values() if gradient.is_sparse else gradient
        readings.append(Reading.of(values, name, kind))


@dataclass
class Replay:
    """The record of one replayed iteration."""

    iteration: int  # the number of the iteration, counted from 1
    trace: LayerTrace  # the outputs and gradients of the layers
    learning_rate: float = math.nan  # the learning rate of the first parameter group
    losses: dict[str, float] = field(default_factory=dict)  # the losses that were logged; empty if the step failed
    weights_before: list[str] = field(default_factory=list)  # the names of non-finite parameters before the iteration
    weights_after: list[str] = field(default_factory=list)  # the names of non-finite parameters after the iteration
    stopped: str = ""  # the message of the error that stopped the iteration, or ""
    differences: str = ""  # differences between this environment and that of the run; they may change the result

    @property
    def failed(self) -> bool:
        """Whether a loss, a weight, an output or a gradient is non-finite."""
        finite_losses = all(map(math.isfinite, self.losses.values()))
        readings = self.trace.outputs + self.trace.gradients
        return not finite_losses or bool(self.weights_after) or first_nonfinite(readings) is not None


def first_nonfinite(readings: Sequence[Reading]) -> Reading | None:
    """Returns the first reading with non-finite entries."""
    return next((each for each in readings if not each.finite), None)


def find_capture(path: str) -> str:
    """Returns the path of a capture, given the capture or the folder that contains it.

    Raises:
        ArgumentError: The folder contains no capture, or several captures.
    """
    try:
        found = [name for name in storage.list_dir(path) if name.endswith(SUFFIX) and not name.startswith(".")]
    except OSError:  # a file, or a missing path; reading it raises the error
        return path
    if len(found) == 1:
        return storage.join(path, found[0])
    what = "several captures" if found else "no capture of a non-finite iteration"
    raise ArgumentError(f"'{path}' contains {what}", notes=[f"Choose one: {', '.join(found)}"] if found else ())


def read_facts(path: str) -> dict[str, Any]:
    """Returns the facts about the run that a capture contains, without executing anything from it.

    Raises:
        ArgumentError: The file is not a capture, or a fact is missing or invalid. The error names the key.
        CheckpointError: The file cannot be read.
    """
    facts = load_checkpoint(path, "meta").get(CAPTURE)
    if not isinstance(facts, Mapping):
        raise ArgumentError(
            f"'{path}' is not a capture of a non-finite iteration", notes=["The names of captures end in '.capture'."]
        )
    for key, kind in _FACTS.items():
        if key not in facts:
            raise ArgumentError(f"'{key}' is missing from the capture '{path}'", key=f"{CAPTURE}.{key}")
        value = facts[key]
        if isinstance(kind, range):
            is_valid, wanted = type(value) is int and value in kind, f"an integer from {kind[0]} to {kind[-1]}"
        else:
            is_valid = kind if value is None else isinstance(value, str) and len(value) <= _MAX_LENGTH
            wanted = f"a string of at most {_MAX_LENGTH} characters"
        if not is_valid:
            raise ArgumentError(
                f"'{key}' in the capture '{path}' must be {wanted}", key=f"{CAPTURE}.{key}", found=value
            )
    return dict(facts)


def config_of_capture(path: str) -> str:
    """Returns the path of the config that was saved with a capture."""
    return f"{path.removesuffix(SUFFIX)}.py"


def replay(cfg: Config, path: str, facts: Mapping[str, Any], *, iteration: int | None = None) -> Replay:
    """Restores the state in a capture, trains up to an iteration, and records that iteration.

    Hooks and validations run as in training. Files are written only to a temporary folder, which is removed.

    Args:
        cfg: The config of the run, of either generation. It is not changed.
        path: The path of the capture.
        facts: The result of `read_facts`.
        iteration: The iteration to record, counted from 1. By default, the iteration that stopped the run.

    Raises:
        ArgumentError: The iteration is not between the state of the capture and the end of the run.
    """
    cfg = runner_config(cfg)
    number = iteration if iteration is not None else facts["iteration"]
    with temporary_folder("footplate-replay-") as folder:
        torch.set_num_threads(facts["threads"])
        from_state = facts["origin"] is not None
        runner = build_trial(
            cfg,
            folder,
            resume=from_state,
            load_from=os.path.abspath(path) if from_state else facts["load_from"],
            preflight=False,
            randomness={**(cfg.get("randomness") or {}), "seed": facts["seed"]},
            default_hooks={**(cfg.get("default_hooks") or {}), "checkpoint": None, "logger": None},
            log_level="ERROR",
        )
        recorder = _RecorderHook(number)
        runner.register_hook(recorder)
        try:
            runner.train()
        except EarlyExitError:
            pass
        except NonFiniteError as error:
            if recorder.found is None:
                message = f"the run stops before iteration {number}: {error.message}"
                raise ArgumentError(message, key="iteration") from error
            recorder.finish(runner, stopped=error.message)
    found = recorder.found
    if found is None:
        raise ArgumentError("the run ends before that iteration", key="iteration", found=number)
    here = facts_of(runner)
    found.differences = ", ".join(
        f"{key} {here[key]} instead of {facts[key]}" for key in here if facts[key] != here[key]
    )
    return found


class _RecorderHook(Hook):
    """Records the layers of one iteration and stops the run after it."""

    priority = "HIGHEST"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration
        self.found: Replay | None = None

    def before_train(self, runner: Runner) -> None:
        if self.iteration <= runner.iter:
            raise ArgumentError(
                f"the capture starts after iteration {runner.iter}", key="iteration", found=self.iteration
            )
        if self.iteration > runner.max_iters:
            raise ArgumentError(
                "the run ends before that iteration",
                key="iteration",
                found=self.iteration,
                notes=[f"It ends after iteration {runner.max_iters}."],
            )
        runner.model.train_step = partial(self._step, runner, runner.model.train_step)

    def _step(self, runner: Runner, train_step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a training step. If it stops the run as expected, no rank may report this as a failure."""
        try:
            return train_step(*args, **kwargs)
        except NonFiniteError as error:
            if self.found is None:
                raise
            self.finish(runner, stopped=error.message)
            raise EarlyExitError from error

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter + 1 != self.iteration:
            return
        model = unwrap_model(runner.model)
        rate = next(iter(runner.optim_wrapper.get_lr().values()))[0]
        self.found = Replay(
            self.iteration,
            LayerTrace(model),
            learning_rate=math.nan if rate is None else float(rate),  # some optimizers choose their own rate
            weights_before=nonfinite_weights(model),
        )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        if self.found is not None:
            self.finish(runner, {name: float(value) for name, value in (outputs or {}).items()})
            raise EarlyExitError

    def finish(self, runner: Runner, losses: dict[str, float] | None = None, *, stopped: str = "") -> None:
        """Stores the results of the iteration."""
        if self.found is not None:
            self.found.trace.close()
            self.found.losses, self.found.stopped = losses or {}, stopped
            self.found.weights_after = nonfinite_weights(unwrap_model(runner.model))


def describe_replay(found: Replay, *, whole: bool = False) -> str:
    """Returns tables of the layers and the first non-finite values as text.

    Shows only the layers up to the first non-finite one, or every layer if `whole` is set.
    """
    trace = found.trace
    losses = ", ".join(f"{name} {value:g}" for name, value in found.losses.items()) or "no losses"
    lines = [f"iteration {found.iteration}: {losses}; learning rate {found.learning_rate:g}, {trace.precision}", ""]
    lines += [*_table("output of", trace.outputs, whole=whole), ""]
    lines += [*_table("gradient of", trace.gradients, whole=whole), ""] if trace.gradients else []
    if found.differences:
        lines.append(f"differences from the run, which may change the result: {one_line(found.differences)}")
    if not found.failed:
        lines.append(f"iteration {found.iteration} is finite: the failure could not be reproduced")
        return "\n".join([*lines, ""])
    lines += [f"stopped: {found.stopped}"] if found.stopped else []
    if found.weights_before:
        lines.append(f"non-finite weights before the iteration: {list_names(found.weights_before, 1)}")
    output, gradient = first_nonfinite(trace.outputs), first_nonfinite(trace.gradients)
    if output is None:
        lines.append("all outputs are finite")
    else:
        lines.append(f"first non-finite output: {output.name} ({output.kind}), {_count(output)}; {output.notes}")
    if gradient is not None:
        flow = first_nonfinite(trace.flowing)
        source = f"; it was propagated from the output of {flow.name} ({flow.kind})" if flow is not None else ""
        lines.append(f"first non-finite gradient: {gradient.name}, {_count(gradient)}{source}")
    elif trace.gradients:
        lines.append("all gradients are finite")
    if found.weights_after and not found.weights_before:
        lines.append(f"non-finite weights after the iteration: {list_names(found.weights_after, 1)}")
    return "\n".join([*lines, ""])


def _table(title: str, readings: Sequence[Reading], *, whole: bool) -> list[str]:
    """Returns a table of all layers, or of the first non-finite layer and a few layers before it."""
    first = next((number for number, each in enumerate(readings) if not each.finite), None)
    begin, end = 0, len(readings)
    if not whole and len(readings) > _SHORT_TABLE:
        begin, end = (0, _SHORT_TABLE) if first is None else (max(first - _ROWS_BEFORE, 0), first + 1)
    rows = [(title, "kind", "dtype", "shape", "finite", "min", "max")]
    for each in readings[begin:end]:
        shape = "x".join(map(str, each.shape)) or "-"
        rows.append((each.name, each.kind, each.dtype, shape, _count(each), f"{each.low:.4g}", f"{each.high:.4g}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if begin:
        lines.insert(1, f"... {begin} before, all finite; --all shows them")
    if end < len(readings):
        bad = sum(not each.finite for each in readings[end:])
        lines.append(f"... {len(readings) - end} after, {bad} of them non-finite; --all shows them")
    return lines


def _count(reading: Reading) -> str:
    """Returns the numbers of NaN and infinite entries as text, or "yes" if all entries are finite."""
    counts = ((reading.nans, "NaN"), (reading.infinities, "inf"))
    return ", ".join(f"{count} of {math.prod(reading.shape)} {name}" for count, name in counts if count) or "yes"


def readable_tensors(found: Any) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors that a `Reading` can describe: dense tensors with floating-point or complex numbers."""
    for key, tensor in tensors_in(found):
        if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.is_sparse:
            yield key, tensor
