"""Measures the parts of a training step on this machine, and describes the cluster to plan for."""

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from footplate import storage
from footplate.checkpoint import save_checkpoint
from footplate.checks import check_count, check_flag, check_number
from footplate.config import Config
from footplate.data import batches
from footplate.distributed import unwrap_model
from footplate.distributed.fully_shard import TensorParallel, common_divisor, select_layers
from footplate.engine import Runner
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError, DataError, FootplateError, Origin
from footplate.interrupts import temporary_folder
from footplate.messages import nearest
from footplate.tools.memory_use import bytes_of, counting_activations, state_bytes
from footplate.tools.partial_build import build_trial

_WARM_UP = 3  # steps
# The least values of measurements that must be integers.
_COUNTS = {"batch": 1, "workers": 0, "threads": 1, "cores": 1, "layer_messages": 0, "layer_divisor": 0}
_POSITIVE = ("forward", "write_speed")
_LEAST = {"crowding": 1.0, "switching": 1.0}  # of the other measurements; 0 by default
_MOST = {"layer_share": 1.0}
_LARGEST = 10**18  # of any measurement, so that no result is infinite


@dataclasses.dataclass(frozen=True)
class Measurements:
    """The measurements of a training step on one device, as seconds, bytes and counts."""

    batch: int  # samples per step
    forward: float  # seconds of a forward pass, without waiting for data
    backward: float  # seconds of a backward pass
    update: float  # seconds of the optimizer's step
    spread: float  # relative standard deviation of step times, estimated from their quartiles
    loading: float  # seconds that a worker needs to read a sample
    workers: int  # data-loading workers
    weights: int  # bytes of weights and buffers
    gradients: int  # bytes of the gradients
    optimizer: int  # bytes of the optimizer's state
    activations: int  # bytes that the forward pass of a batch saves for the backward pass
    largest_unit: int  # bytes of the largest part of the model that is gathered at once
    checkpoint: int  # bytes of a checkpoint
    write_speed: float  # bytes per second that one process writes
    on_cores: bool = False  # whether steps run on CPU cores that processes share
    threads: int = 1  # threads per process
    cores: int = 1  # cores of the machine
    crowding: float = 1.0  # slowdown factor of a step when all cores are busy
    switching: float = 1.0  # additional slowdown factor if there are twice as many threads as cores
    byte_seconds: float | None = None  # seconds per byte that two processes on these cores exchange
    message_seconds: float | None = None  # seconds per message between two processes
    # of the layers that tensor parallelism splits:
    layer_weights: int = 0  # bytes of their weights
    layer_share: float = 0.0  # their share in the operations of a forward pass
    layer_bytes: int = 0  # bytes that the devices which share them exchange per step
    layer_messages: int = 0  # number of these exchanges
    layer_divisor: int = 0  # the number of devices that share them must divide this; 0 allows any number

    @property
    def step(self) -> float:
        """The duration of a step in seconds, without waiting for data."""
        return self.forward + self.backward + self.update

    def write(self, path: str) -> None:
        """Writes the measurements to a JSON file."""
        storage.commit_bytes(path, (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: str) -> "Measurements":
        """Reads a file written by `write`. Users may have edited it.

        Raises:
            ArgumentError: The file cannot be read, or a value is invalid.
        """
        try:
            content = json.loads(storage.read_bytes(path))
        except (OSError, ValueError, RecursionError) as error:
            raise ArgumentError(f"cannot read '{path}' as measurements: {error}", key="--parts") from error
        try:
            return cls.from_dict(content)
        except FootplateError as error:
            error.origin = Origin(path, 0)
            raise

    @classmethod
    def from_dict(cls, content: Any) -> "Measurements":
        """Builds the measurements from a dict.

        Raises:
            ArgumentError: A key is unknown or missing, or a value is invalid.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if not isinstance(content, dict):
            raise ArgumentError("measurements must be a dict", key="--parts", found=content)
        for name, value in content.items():
            if name not in fields:
                raise ArgumentError(f"unknown measurement '{name}'", key=name, suggestion=nearest(name, fields))
            if name == "on_cores":
                check_flag(name, value)
            elif name in _COUNTS:
                check_count(name, value, least=_COUNTS[name], most=_LARGEST)
            else:
                limits = {"above": 0.0} if name in _POSITIVE else {"least": _LEAST.get(name, 0.0)}
                most, optional = _MOST.get(name, _LARGEST), fields[name].default is None
                check_number(name, value, **limits, most=most, optional=optional)
        missing = [
            name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in content
        ]
        if missing:
            raise ArgumentError(f"the measurement '{missing[0]}' is missing", key=missing[0])
        measured = cls(**content)
        if measured.layer_weights > measured.weights:
            raise ArgumentError(
                f"'layer_weights' must be at most 'weights', {measured.weights}, because they are a part of them",
                key="layer_weights",
                found=measured.layer_weights,
            )
        return measured


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The machines for which a plan predicts the cost of a step."""

    nodes: int = 1  # the number of nodes
    per_node: int = 1  # devices per node
    bandwidth: float = 12.5e9  # bytes per second between a node and the others, in each direction
    inner_bandwidth: float = 300e9  # bytes per second between devices of a node
    latency: float = 10e-6  # seconds that a message takes from one node to another

    @property
    def devices(self) -> int:
        """The number of devices on all nodes."""
        return self.nodes * self.per_node


def measure(cfg: Config, *, steps: int = 20, tensor_parallel: TensorParallel | None = None) -> Measurements:
    """Runs a few training steps of a config on real data and measures their parts. Leaves no files.

    Args:
        cfg: The result of `check_config`.
        steps: The number of steps to measure, after three warm-up steps.
        tensor_parallel: The layers that tensor parallelism would split. By default, none.

    Raises:
        ArgumentError: The layers cannot be split as `tensor_parallel` requires.
        DataError: The training loader has no batches.
        FootplateError: The run cannot be built, or its model has its own `train_step`.
    """
    check_count("--steps", steps, least=2)
    with temporary_folder("footplate-plan-") as folder, located(cfg):
        loader, workers = cfg.get("train_dataloader"), 0
        if isinstance(loader, Mapping):  # batches are read in this process
            workers = int(loader.get("num_workers", 0))
            loader = {**loader, "num_workers": 0, "persistent_workers": False}
        runner = build_trial(cfg, folder, load_from=None, train_dataloader=loader)
        _ = runner.train_loop, runner.optim_wrapper
        model: Any = unwrap_model(runner.model)
        if hasattr(model, "init_weights"):
            model.init_weights()
        runner.model.train()
        batch, times = _time_steps(runner, steps + _WARM_UP)
        path = os.path.join(folder, "measured.pth")
        begin = time.perf_counter()
        save_checkpoint({"state_dict": model.state_dict(), "optimizer": runner.optim_wrapper.state_dict()}, path)
        write_seconds = time.perf_counter() - begin
        checkpoint = storage.status(path).size
        layers = SplitLayers(model, tensor_parallel or TensorParallel(1, None))
        with counting_activations(model) as activations, layers.measuring(), runner.optim_wrapper.optim_context(model):
            model._run_forward(model.data_preprocessor(batch, True), "loss")
    loading = [seconds for seconds, *_ in times]
    forward, backward, update = zip(*(each[1:] for each in times[_WARM_UP:]), strict=True)
    in_order = sorted(map(sum, zip(forward, backward, update, strict=True)))
    quarter, half, third = (in_order[len(in_order) * at // 4] for at in (1, 2, 3))
    batch_size = getattr(runner.train_dataloader, "batch_size", None) or 1
    state = state_bytes(runner)
    on_cores = runner.device.type == "cpu"
    return Measurements(
        batch=batch_size,
        forward=statistics.median(forward),
        backward=statistics.median(backward),
        update=statistics.median(update),
        spread=(third - quarter) / 1.349 / half,  # the standard deviation, estimated from quartiles
        loading=statistics.median(loading) / batch_size,
        workers=workers,
        weights=state["weights"],
        gradients=state["gradients"],
        optimizer=state["optimizer"],
        activations=activations(),
        largest_unit=max((bytes_of(child.parameters()) for child in model.children()), default=0),
        checkpoint=checkpoint,
        write_speed=checkpoint / write_seconds,
        on_cores=on_cores,
        threads=torch.get_num_threads() if on_cores else 1,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        layer_weights=layers.weights,
        layer_share=layers.share,
        layer_bytes=layers.exchanged,
        layer_messages=layers.messages,
        layer_divisor=layers.divisor,
    )


class SplitLayers:
    """Measures the layers that tensor parallelism splits during a forward pass.

    Attributes:
        weights: The size of their weights in bytes.
        share: Their share in the floating-point operations, from 0 to 1.
        exchanged: The number of bytes that the devices exchange in the forward pass and the backward pass.
        messages: The number of these exchanges.
        divisor: The number of devices that share the layers must divide this. 0 allows any number.
    """

    def __init__(self, model: nn.Module, settings: TensorParallel) -> None:
        self._model = model
        with at_key("model_wrapper_cfg.tensor_parallel"):
            self._styles = select_layers(model, settings)
        self.divisor = common_divisor(model, self._styles)
        layers = map(model.get_submodule, self._styles)
        self.weights = bytes_of({id(each): each for layer in layers for each in layer.parameters()}.values())
        self.share, self.exchanged, self.messages = 0.0, 0, 0

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Counts operations and exchanges in the block, which contains one forward pass."""
        if not self._styles:
            yield
            return
        handles = []
        for name, style in self._styles.items():
            layer = self._model.get_submodule(name)
            handles.append(layer.register_forward_hook(partial(self._count, style)))
        try:
            with FlopCounterMode(display=False) as counter:
                yield
        finally:
            for handle in handles:
                handle.remove()
        root = type(self._model).__name__
        counts = counter.get_flop_counts()
        split = sum(sum(counts.get(f"{root}.{name}", {}).values()) for name in self._styles)
        self.share = split / max(counter.get_total_flops(), 1)

    def _count(self, style: str, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        sent = []
        if style.startswith("colwise") and args[0].requires_grad:
            sent.append(bytes_of(args))  # the gradient of the input
        if style == "colwise_gather_output":
            sent.append(bytes_of([output]) // 2)  # gathering moves half as much as summing
        elif style.endswith("rowwise"):
            sent.append(bytes_of([output]))
        elif style == "replicated_with_grad_allreduce":
            sent += [bytes_of([each]) for each in layer.parameters()]
        self.exchanged += sum(sent)
        self.messages += len(sent)


def _time_steps(runner: Runner, number: int) -> tuple[Any, list[tuple[float, ...]]]:
    """Reads a batch and trains on it, `number` times. Reuses the batches if there are too few.

    Reading and training alternate as in a run, so that they share the caches in the same way.

    Returns:
        The first batch, and for each step the seconds of reading, forward pass, backward pass and update.
    """
    model: Any = unwrap_model(runner.model)
    stream = iter(batches(runner.train_dataloader))
    read: list[tuple[Any, float]] = []
    steps = []
    for step in range(number):
        begin = time.perf_counter()
        batch = next(stream, None)
        if batch is not None:
            read.append((batch, time.perf_counter() - begin))
        elif not read:
            raise DataError("the training dataloader has no batches", key="train_dataloader")
        batch, loading = read[step % len(read)]
        times = [_now(runner.device)]
        try:
            with runner.optim_wrapper.optim_context(runner.model):
                losses = model._run_forward(model.data_preprocessor(batch, True), "loss")
            loss, _ = model.parse_losses(losses)
        except AttributeError as error:
            raise FootplateError(
                f"cannot measure the parts of a step, since the model '{type(model).__name__}' has its own train_step",
                key="model",
                notes=["Measure them in another way, and pass the results with --parts."],
            ) from error
        times.append(_now(runner.device))
        loss.backward()
        times.append(_now(runner.device))
        for part in runner.optim_wrapper.parts.values():
            part.step()
            part.zero_grad()
        times.append(_now(runner.device))
        steps.append((loading, *(after - before for before, after in pairwise(times))))
    return read[0][0], steps


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()
