"""Snapshots of the state that user code may change in a trial run, to restore it afterwards."""

import copy
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Sampler

from footplate.engine.hook import Hook
from footplate.evaluation import BaseMetric, Evaluator

_LARGEST = 16 << 20  # bytes of a tensor or array other than a buffer; a dataset in memory is not copied
_MOST = 1000  # elements of a container whose elements are visited
_OF_OTHERS = {*sys.stdlib_module_names, "torch", "numpy", "footplate", "PIL", "cv2"}
_OURS = (nn.Module, Hook, BaseMetric, Evaluator, Dataset, Sampler)
_COUNTS = (int, float)
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
            return value if len(value) <= _MOST else ()
        elif not self._keep_generator(value) and _is_looked_into(value):
            return self._keep_attributes(value)
        return ()

    def _keep_tensor(self, tensor: torch.Tensor, *, largest: float = _LARGEST) -> None:
        if isinstance(tensor, nn.Parameter) or tensor.numel() * tensor.element_size() > largest or tensor.is_meta:
            return
        before, version = tensor.detach().clone(), _version(tensor)

        def undo() -> None:
            if version is None or _version(tensor) != version:
                tensor.detach().copy_(before)

        self._undo.append(undo)

    def _keep_array(self, array: "np.ndarray[Any, Any]") -> None:
        if array.nbytes > _LARGEST or not array.flags.writeable or isinstance(array, np.memmap):
            return
        before = array.copy()
        self._undo.append(lambda: np.copyto(array, before))

    def _keep_container(self, held: Any) -> Iterable[Any]:
        before = copy.copy(held)

        def undo() -> None:
            held.clear()
            (held.extend if isinstance(held, (list, deque, bytearray)) else held.update)(before)

        self._undo.append(undo)
        if isinstance(held, bytearray) or len(held) > _MOST:
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
                self._keep_counts(kind)
                self._keep_counts(sys.modules.get(kind.__module__))
        if isinstance(value, nn.Module) and not _is_of_user(type(value)) and _root(type(value)) == "torch":
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

    def _keep_counts(self, owner: Any) -> None:
        if owner is None or id(owner) in self._seen:
            return
        self._seen[id(owner)] = owner
        held = vars(owner)
        before = {name: each for name, each in held.items() if type(each) in _COUNTS}

        def undo() -> None:
            for name, count in before.items():
                if type(held.get(name)) in _COUNTS and held[name] != count:
                    setattr(owner, name, count)

        self._undo.append(undo)


def _version(tensor: torch.Tensor) -> int | None:
    """Returns how often a tensor was changed in place, or None if torch does not count it."""
    return None if tensor.is_inference() else tensor._version


def _root(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _is_of_user(kind: type) -> bool:
    return _root(kind) not in _OF_OTHERS


def _is_looked_into(value: Any) -> bool:
    return hasattr(value, "__dict__") and (isinstance(value, _OURS) or _is_of_user(type(value)))
