"""Snapshots of the state that user code may change, to restore it, and a check whether hooks change weights."""

import copy
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Sampler

from footplate.distributed import unwrap_model
from footplate.distributed.sharding import local_tensor
from footplate.engine.hook import Hook
from footplate.evaluation import BaseMetric, Evaluator

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_MAX_BYTES = 16 << 20  # bytes of a tensor or array other than a buffer; a dataset in memory is not copied
_MAX_ELEMENTS = 1000  # elements of a container whose elements are visited
_NOT_USER_PACKAGES = {*sys.stdlib_module_names, "torch", "numpy", "footplate", "PIL", "cv2"}
_FOLLOWED_TYPES = (nn.Module, Hook, BaseMetric, Evaluator, Dataset, Sampler)
_NUMBERS = (int, float)
# Internals of nn.Module, which a wrapper may replace while it predicts. They are not restored as attributes.
_KEPT = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def copied_state(value: Any) -> Any:
    """Returns a deep copy of a state. Tensors are detached first, because `copy.deepcopy` refuses one with a graph."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        copied = copy.copy(value)
        copied.update((key, copied_state(each)) for key, each in value.items())
        return copied
    if type(value) in (list, tuple):
        return type(value)(map(copied_state, value))
    return copy.deepcopy(value)


class Buffers:
    """A copy of a model's buffers, to restore them.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._held = [(each._buffers, dict(each._buffers)) for each in model.modules() if each._buffers]
        self._values = [(each, each.detach().clone()) for each in model.buffers()]

    def restore(self) -> None:
        """Restores the buffers."""
        with torch.no_grad():
            for tensor, value in self._values:
                tensor.copy_(value)
        for held, before in self._held:
            held.update(before)


class Snapshot:
    """A copy of buffers and object attributes, to restore them.

    Starting from the given objects, it follows attributes, lists and dicts to models, hooks, metrics, datasets,
    samplers and objects of user classes. It keeps numbers, strings, containers, random generators, and tensors and
    arrays up to 16 MB. It keeps buffers of any size. Of user classes and the modules that define them, it keeps the
    numbers. It does not keep parameters, files, or the content of objects of other libraries.

    Args:
        objects: The objects to start from.
    """

    def __init__(self, objects: Iterable[Any]) -> None:
        self._seen: dict[int, Any] = {}  # holds the objects too, so that no id is reused
        self._undo: list[Callable[[], None]] = []
        waiting = deque(objects)
        while waiting:
            waiting.extend(self._keep(waiting.popleft()))

    def restore(self) -> None:
        """Restores everything."""
        with torch.no_grad():
            for undo in self._undo:
                undo()

    def _keep(self, value: Any) -> Iterable[Any]:
        """Keeps one value, and returns the values it contains."""
        if id(value) in self._seen or value is None or isinstance(value, (str, bytes, int, float, type)):
            return ()
        self._seen[id(value)] = value
        if isinstance(value, torch.Tensor):
            self._keep_tensor(value)
        elif isinstance(value, np.ndarray):
            self._keep_array(value)
        elif isinstance(value, (dict, list, set, deque, bytearray)):
            return self._keep_container(value)
        elif isinstance(value, (tuple, frozenset)):
            return value if len(value) <= _MAX_ELEMENTS else ()
        elif (
            not self._keep_generator(value)
            and hasattr(value, "__dict__")
            and (isinstance(value, _FOLLOWED_TYPES) or _is_of_user(type(value)))
        ):
            return self._keep_attributes(value)
        return ()

    def _keep_tensor(self, tensor: torch.Tensor, *, largest: float = _MAX_BYTES) -> None:
        if isinstance(tensor, nn.Parameter) or tensor.numel() * tensor.element_size() > largest or tensor.is_meta:
            return
        before, version = tensor.detach().clone(), _version(tensor)

        def undo() -> None:
            if version is None or _version(tensor) != version:
                tensor.detach().copy_(before)

        self._undo.append(undo)

    def _keep_array(self, array: "np.ndarray[Any, Any]") -> None:
        if array.nbytes > _MAX_BYTES or not array.flags.writeable or isinstance(array, np.memmap):
            return
        before = array.copy()
        self._undo.append(lambda: np.copyto(array, before))

    def _keep_container(self, held: Any) -> Iterable[Any]:
        before = copy.copy(held)

        def undo() -> None:
            held.clear()
            (held.extend if isinstance(held, (list, deque, bytearray)) else held.update)(before)

        self._undo.append(undo)
        if isinstance(held, bytearray) or len(held) > _MAX_ELEMENTS:
            return ()
        return list(held.values()) if isinstance(held, dict) else list(held)

    def _keep_generator(self, value: Any) -> bool:
        if isinstance(value, random.Random):
            python = value.getstate()
            self._undo.append(lambda: value.setstate(python))
        elif isinstance(value, np.random.RandomState):
            old = value.get_state()
            self._undo.append(lambda: value.set_state(old))
        elif isinstance(value, np.random.Generator):
            state = value.bit_generator.state
            self._undo.append(lambda: setattr(value.bit_generator, "state", state))
        elif isinstance(value, torch.Generator):
            tensor = value.get_state()

            def undo() -> None:
                value.set_state(tensor)

            self._undo.append(undo)
        else:
            return False
        return True

    def _keep_attributes(self, value: Any) -> Iterable[Any]:
        attributes = vars(value)
        inner: list[Any] = []
        if isinstance(value, nn.Module):
            inner += [*value._modules.values()]
            self._keep_buffers(value)
        for kind in type(value).__mro__:
            if _is_of_user(kind):
                self._keep_numbers(kind)
                self._keep_numbers(sys.modules.get(kind.__module__))
        if isinstance(value, nn.Module) and not _is_of_user(type(value)) and _package_of(type(value)) == "torch":
            return inner
        before = {name: each for name, each in attributes.items() if name not in _KEPT}

        def undo() -> None:
            for name in [each for each in attributes if each not in before and each not in _KEPT]:
                del attributes[name]
            attributes.update(before)

        self._undo.append(undo)
        return [*inner, *before.values()]

    def _keep_buffers(self, module: nn.Module) -> None:
        before = dict(module._buffers)
        for each in before.values():
            if each is not None and id(each) not in self._seen:
                self._seen[id(each)] = each
                self._keep_tensor(each, largest=float("inf"))
        self._undo.append(lambda: module._buffers.update(before))

    def _keep_numbers(self, owner: Any) -> None:
        if owner is None or id(owner) in self._seen:
            return
        self._seen[id(owner)] = owner
        held = vars(owner)
        before = {name: each for name, each in held.items() if type(each) in _NUMBERS}

        def undo() -> None:
            for name, count in before.items():
                if type(held.get(name)) in _NUMBERS and held[name] != count:
                    setattr(owner, name, count)

        self._undo.append(undo)


def _version(tensor: torch.Tensor) -> int | None:
    """Returns how often a tensor was changed in place, or None if torch does not count it."""
    return None if tensor.is_inference() else tensor._version


def _package_of(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _is_of_user(kind: type) -> bool:
    return _package_of(kind) not in _NOT_USER_PACKAGES


def call_and_compare_weights(runner: "Runner", *events: str) -> bool:
    """Calls the hooks that act at `events` and checks whether a user's hook changed the weights.

    Then the run is not saved until the hooks restore them. Hooks of footplate are not checked: they put the right
    weights into a checkpoint that is saved in the meantime. Weights are compared by their norms, before and after each
    user's hook.
    """
    changes = False
    for event in events:
        for method in runner.hooks.at(event):
            module = f"{type(getattr(method, '__self__', None)).__module__}."
            is_users = not module.startswith("footplate.") or module.startswith("footplate.first_generation.adapters.")
            before = _norms(runner.model) if is_users else None
            method(runner)
            changes = changes or (before is not None and before != _norms(runner.model))
    return changes


def _norms(wrapped: Any) -> bytes:
    """Returns the norms of all weights and buffers in a comparable form."""
    model, measured = unwrap_model(wrapped), []
    for tensor in (local_tensor(each).detach() for each in (*model.parameters(), *model.buffers())):
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor)
        elif not tensor.is_floating_point() or tensor.element_size() == 1:  # integers and 8-bit floats have no norm
            tensor = tensor.float()
        if tensor.numel():
            measured.append(tensor)
    if not measured:
        return b""
    norms = torch._foreach_norm(measured, dtype=torch.float64)  # one call; in float64, so that no norm overflows
    return torch.stack([each.cpu() for each in norms]).numpy().tobytes()
