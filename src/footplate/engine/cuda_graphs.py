"""The config key `cuda_graphs`: its check, the hook that enables it, and the backend that uses `torch.cuda`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from footplate.distributed import get_world_size
from footplate.engine.graphed_step import KEY, TURN_OFF, GraphBackend, GraphedStep
from footplate.engine.hook import Hook
from footplate.engine.process_setup import pick_device
from footplate.errors import ArgumentError
from footplate.models import BaseModel

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_OWN_GRAPHS = ("reduce-overhead", "max-autotune")  # modes of torch.compile


class CudaBackend:
    """Captures CUDA graphs with `torch.cuda.CUDAGraph` on a separate stream."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Runs the block on the capture stream, and synchronizes it with the current stream before and after."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Captures the operations of a function. Other threads, such as one that pins batches, may use CUDA."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            function()
        return graph.replay


def check_cuda_graphs(sections: Mapping[str, Any]) -> None:
    """Checks that a run with these sections can use CUDA graphs.

    Raises:
        ArgumentError: There is no CUDA device, there are several processes, or another key conflicts with graphs. The
            number of processes is known only after the process group is initialized.
    """
    if not sections[KEY]:
        return
    settings = sections["compile"] if isinstance(sections["compile"], Mapping) else {}
    options = settings.get("options") or {}
    if (
        settings.get("mode") in _OWN_GRAPHS
        or settings.get("backend") == "cudagraphs"
        or options.get("triton.cudagraphs")
    ):
        raise ArgumentError(
            "`cuda_graphs` and a compiler that creates its own CUDA graphs cannot both be set",
            key="compile",
            found=sections["compile"],
            notes=["Use another mode of `compile`, such as 'max-autotune-no-cudagraphs', or " + TURN_OFF],
        )
    if sections["activation_checkpointing"]:
        raise ArgumentError(
            "`cuda_graphs` and `activation_checkpointing` cannot both be set: a graph cannot restore random states",
            key=KEY,
            notes=["Remove activation_checkpointing, or " + TURN_OFF],
        )
    if get_world_size() > 1:
        raise ArgumentError(
            "`cuda_graphs` supports only one process", key=KEY, notes=["Train on one device, or " + TURN_OFF]
        )
    device = pick_device()
    if device.type != "cuda":
        raise ArgumentError(
            "`cuda_graphs` needs a CUDA device", key=KEY, found=str(device), notes=["Use a GPU, or " + TURN_OFF]
        )


def check_capturable(model: nn.Module) -> None:
    """Checks that CUDA graphs can capture the training step of a model.

    Raises:
        ArgumentError: The model has its own `train_step`, or gradient hooks that a graph would not call.
    """
    if getattr(type(model), "train_step", None) is not BaseModel.train_step:
        raise ArgumentError(
            f"`cuda_graphs` cannot capture the model '{type(model).__name__}', because it has its own train_step",
            key=KEY,
            notes=["Remove its train_step, or " + TURN_OFF],
        )
    hooked = (name for name, each in model.named_parameters() if each._post_accumulate_grad_hooks)
    if (name := next(hooked, None)) is not None:
        raise ArgumentError(
            f"`cuda_graphs` cannot capture the parameter '{name}': its gradient hooks would not be called",
            key=KEY,
            notes=["Remove the hooks, or " + TURN_OFF],
        )


class CudaGraphHook(Hook):
    """Replaces the training step of the model with a `GraphedStep` during training.

    Args:
        backend: A callable that returns the graph backend.
    """

    priority = "LOWEST"  # after hooks that change the model

    def __init__(self, backend: Callable[[], GraphBackend] = CudaBackend) -> None:
        self._create_backend = backend
        self._step: GraphedStep | None = None

    def before_train(self, runner: "Runner") -> None:
        """Replaces the training step. See `check_capturable` for the models that are refused."""
        check_capturable(runner.model)
        model: Any = runner.model
        self._step = model.train_step = GraphedStep(model, self._create_backend())

    def before_train_epoch(self, runner: "Runner") -> None:
        """Drops the graphs if the model has changed."""
        if self._step is not None:
            self._step.drop_outdated()

    def after_val(self, runner: "Runner") -> None:
        """Drops the graphs if the model has changed."""
        if self._step is not None:
            self._step.drop_outdated()

    def after_train(self, runner: "Runner") -> None:
        """Frees the graphs and restores the training step."""
        if self._step is not None:
            self._step = None
            del runner.model.train_step
