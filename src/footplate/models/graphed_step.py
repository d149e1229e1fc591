"""Runs a training step as graphs: its operations are captured once and then replayed without running Python."""

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from traceback import walk_tb
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from footplate.data.structures import BaseDataElement
from footplate.error_context import innermost_user_line
from footplate.errors import ArgumentError, GraphCaptureError
from footplate.models.base_model import BaseModel

KEY = "cuda_graphs"
TURN_OFF = "set cuda_graphs=False."
_WARM_UP = 3  # iterations without a graph, in which libraries allocate memory and choose kernels
_MOST_GRAPHS = 8
_logger = logging.getLogger("footplate.models")


class GraphBackend(Protocol):
    """Captures and replays operations. All graphs of a backend share one memory pool."""

    def warm_up(self) -> AbstractContextManager[None]:
        """Returns a context for the iterations that run before a capture."""

    def capture(self, function: Callable[[], None], /) -> Callable[[], None]:
        """Captures the operations of a function without executing them. Returns a function that executes them."""


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


class GraphedStep:
    """A training step whose forward and backward passes are graphs.

    Each kind of batch has its own graphs. The kind is determined by the shapes, dtypes and devices of the tensors, by
    the numbers in the batch, and by the modules in evaluation mode and the frozen parameters of the model. The first
    iterations of a kind run without graphs, on the capture stream. The data preprocessor, the optimizer step
    and everything else run as usual.

    Args:
        model: The model, on its device.
        backend: Captures and replays operations.
    """

    def __init__(self, model: BaseModel, backend: GraphBackend) -> None:
        self._model = model
        self._backend = backend
        self._parameters, self._modules = list(model.parameters()), list(model.modules())
        self._graphs: dict[Any, _Graphs] = {}
        self._warm_ups: Counter[Any] = Counter()
        self._state: dict[str, Any] = {}  # of the model, when the first graph was captured

    def __call__(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Runs one training step; see `BaseModel.train_step`.

        Raises:
            ArgumentError: The batches have too many shapes, or the model depends on something that a graph cannot
                replay.
            GraphCaptureError: The capture failed.
        """
        with optim_wrapper.optim_context(self._model):
            data = self._model.data_preprocessor(data, True)
        tensors: list[Tensor] = []
        kind = (
            tuple(_describe(data, "", tensors)),
            tuple([each.requires_grad for each in self._parameters]),
            tuple([each.training for each in self._modules]),
        )
        graphs = self._graphs.get(kind)
        if graphs is None:
            if self._warm_ups[kind] < _WARM_UP:
                return self._warm_up(kind, _with_tensors(data, "", iter(tensors)), optim_wrapper)
            inputs = [each.clone() for each in tensors]
            graphs = self._capture(_with_tensors(data, "", iter(inputs)), inputs, optim_wrapper)
            self._graphs[kind] = graphs
        loss, log_vars = graphs.run(tensors)
        optim_wrapper.update_params(loss)
        graphs.release_gradients()
        return log_vars

    def drop_outdated(self) -> None:
        """Drops all graphs if attributes or tensors of the model were replaced after the first capture."""
        changed = _first_difference(self._state, _state_of(self._model)) if self._graphs else None
        if changed is not None:
            _logger.info("Recapturing the CUDA graphs, because %s has changed.", changed)
            self._graphs.clear()
            self._warm_ups.clear()

    def _warm_up(self, kind: Any, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        self._warm_ups[kind] += 1
        if len(self._warm_ups) > _MOST_GRAPHS:
            first, *_, last = self._warm_ups
            raise _too_many_kinds(first, last)
        is_last = self._warm_ups[kind] == _WARM_UP
        before = {**_state_of(self._model), **_random_states(self._model.device)} if is_last else {}
        with self._backend.warm_up():
            with optim_wrapper.optim_context(self._model), _without_weight_cache():
                losses = self._model._run_forward(data, "loss")
            loss, log_vars = self._model.parse_losses(losses)
            optim_wrapper.update_params(loss)
        if is_last:
            after = {**_state_of(self._model), **_random_states(self._model.device)}
            constants = (f"the value '{name}' to log" for name, each in log_vars.items() if each.device != loss.device)
            changed = next(constants, None) or _first_difference(before, after)
            if changed is not None:
                raise ArgumentError(
                    f"unlike the training step, a CUDA graph would not update {changed}",
                    key=KEY,
                    notes=["Compute it on the device, in a tensor that is changed in place, or " + TURN_OFF],
                )
        return log_vars

    def _capture(self, data: Any, inputs: list[Tensor], optim_wrapper: Any) -> "_Graphs":
        if not self._graphs:
            self._state = _state_of(self._model)
        failure: Exception | None = None

        def capture(function: Callable[[], None]) -> Callable[[], None]:
            def call() -> None:
                nonlocal failure
                try:
                    function()
                except Exception as error:  # the end of the capture raises another one
                    failure = error
                    raise

            return self._backend.capture(call)

        try:
            with optim_wrapper.optim_context(self._model), _without_weight_cache():
                return _Graphs(self._model, data, inputs, capture)
        except Exception as error:  # noqa: BLE001 - any operation of the model may fail
            cause = failure or error
            first = str(cause).strip().partition("\n")[0]
            raise GraphCaptureError(
                "a CUDA graph of the training step cannot be captured, and the CUDA context may be damaged",
                notes=[
                    f"{innermost_user_line(walk_tb(cause.__traceback__))}: {type(cause).__name__}: {first}",
                    "Graphs cannot contain operations that wait for the device, such as item(); see footplate check.",
                    "The run stops without saving. Resume it from the last checkpoint with cuda_graphs=False.",
                ],
            ) from cause


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


class _Graphs:
    """The captured forward and backward pass of one kind of batch, with the memory that they use.

    Everything that a graph computes is used or copied before a graph runs again, so that graphs can share their memory.
    """

    def __init__(
        self,
        model: BaseModel,
        data: Any,
        inputs: list[Tensor],
        capture: Callable[[Callable[[], None]], Callable[[], None]],
    ) -> None:
        trained = [each for each in model.parameters() if each.requires_grad]
        self._inputs = inputs
        self._gradients: list[tuple[Tensor, Tensor]] = []  # pairs of a parameter and its gradient
        without_autocast = torch.autocast(model.device.type, enabled=False)

        def forward() -> None:
            losses = model._run_forward(data, "loss")
            with without_autocast:
                self._loss, self._log_vars = model.parse_losses(losses)

        def backward() -> None:
            found = torch.autograd.grad(self._loss, trained, self._loss_gradient, allow_unused=True)
            seen = {self._loss_gradient.data_ptr()}
            for parameter, gradient in zip(trained, found, strict=True):
                if gradient is None:
                    continue
                if gradient.layout is not torch.strided:
                    raise ArgumentError("gradients must not be sparse", found=tuple(parameter.shape))
                # Like a gradient that autograd accumulates: in the layout of the parameter, and in its own memory.
                if gradient.stride() != parameter.stride() or gradient.data_ptr() in seen:
                    gradient = torch.empty_like(parameter).copy_(gradient)
                seen.add(gradient.data_ptr())
                self._gradients.append((parameter, gradient))

        self._replay_forward = capture(forward)
        self._loss_gradient = torch.ones_like(self._loss)
        with without_autocast:
            self._replay_backward = capture(backward)
        self._loss = self._loss.detach()  # frees the nodes of autograd

    def run(self, tensors: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Runs the forward pass.

        Args:
            tensors: The tensors of the batch.

        Returns:
            The total loss, ``()``, whose `backward` runs the backward pass, and the values to log, ``()`` each.
        """
        torch._foreach_copy_(self._inputs, tensors)
        self._replay_forward()
        loss = self._loss.clone().requires_grad_()
        loss.register_hook(self._run_backward)  # type: ignore[no-untyped-call]
        return loss, {name: value.clone() for name, value in self._log_vars.items()}

    def release_gradients(self) -> None:
        """Copies gradients that are still in use, because the next iteration overwrites their memory."""
        for parameter, gradient in self._gradients:
            if parameter.grad is gradient:
                parameter.grad = gradient.clone()

    def _run_backward(self, loss_gradient: Tensor) -> None:
        self._loss_gradient.copy_(loss_gradient)
        self._replay_backward()
        sums, added = [], []
        for parameter, gradient in self._gradients:
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                sums.append(parameter.grad)
                added.append(gradient)
        if sums:
            torch._foreach_add_(sums, added)


class _NotCaptured:
    """A placeholder for a batch value that a graph cannot capture, such as metadata. Using it raises an error."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _refuse(self, *args: object) -> Any:
        raise ArgumentError(
            f"the training step uses '{self._path[1:]}' from the batch, which is not a tensor",
            key=KEY,
            notes=["A CUDA graph would use the value of one batch for all. Pass a tensor, or " + TURN_OFF],
        )

    __bool__ = __eq__ = __getattr__ = __getitem__ = __iter__ = __len__ = __float__ = __int__ = __index__ = _refuse


def _describe(value: Any, path: str, tensors: list[Tensor]) -> Iterator[tuple[str, Any]]:
    """Yields the path of each value in a batch and its properties that are fixed in a graph. Fills `tensors`."""
    if isinstance(value, Tensor):
        tensors.append(value)
        yield path, (value.shape, value.dtype, value.device)
    elif isinstance(value, (dict, list, tuple)):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _describe(each, f"{path}.{name}", tensors)
    elif isinstance(value, BaseDataElement):
        for name, each in vars(value).items():
            yield from _describe(each, f"{path}.{name}", tensors)
    else:
        yield path, value if value is None or isinstance(value, (bool, int, float)) else type(value)


def _with_tensors(value: Any, path: str, tensors: Iterator[Tensor]) -> Any:
    """Returns a copy of a batch with its tensors replaced by `tensors`, and other objects by `_NotCaptured`."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, dict):
        return {name: _with_tensors(each, f"{path}.{name}", tensors) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_with_tensors(each, f"{path}.{place}", tensors) for place, each in enumerate(value)]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, BaseDataElement):
        element = value.clone()
        data = {name: _with_tensors(each, f"{path}.{name}", tensors) for name, each in vars(value).items()}
        metainfo = {name: _NotCaptured(f"{path}.{name}") for name in value.metainfo_keys()}
        element.__setstate__({"metainfo": metainfo, "data": data})
        return element
    return value if value is None or isinstance(value, (bool, int, float)) else _NotCaptured(path)


def _too_many_kinds(first: Any, last: Any) -> ArgumentError:
    earlier = dict(first[0])
    paths = [path for path, each in last[0] if each != earlier.get(path)]
    found = [f"{path[1:]}: {_shown(earlier.get(path))} and {_shown(dict(last[0])[path])}" for path in paths[:2]]
    unseen = "their structure, the frozen parameters, or the modules in evaluation mode"
    return ArgumentError(
        f"`cuda_graphs` supports at most {_MOST_GRAPHS} kinds of batches, because each needs its own graph",
        key=KEY,
        notes=[
            f"Two of them differ in {'; '.join(found) or unseen}.",
            "Give all batches the same shapes (a fixed image size, padded targets, drop_last=True), or " + TURN_OFF,
        ],
    )


def _shown(value: Any) -> str:
    return str(tuple(value[0])) if isinstance(value, tuple) else str(value)


def _state_of(model: nn.Module) -> dict[str, Any]:
    """Returns the model state that a capture fixes: plain attributes, and the addresses of tensors."""
    state: dict[str, Any] = {
        f"the tensor '{name}'": each.data_ptr() for name, each in chain(model.named_parameters(), model.named_buffers())
    }
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, (bool, int, float, str)) and key != "training":
                state[f"the attribute '{f'{name}.{key}'.lstrip('.')}'"] = value
    return state


def _random_states(device: torch.device) -> dict[str, Any]:
    """Returns the states of the random generators that replaying a graph does not advance."""
    numpy = np.random.get_state(legacy=False)["state"]
    states: dict[str, Any] = {
        "the random state of Python": random.getstate(),
        "the random state of NumPy": (numpy["key"].tobytes(), numpy["pos"]),
    }
    if device.type != "cpu":
        states["the random state of torch"] = torch.get_rng_state().tolist()
    return states


def _first_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    return next((name for name in {**before, **after} if before.get(name) != after.get(name)), None)


@contextmanager
def _without_weight_cache() -> Iterator[None]:
    """Disables autocast's cache of converted weights, which a graph would not update."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
