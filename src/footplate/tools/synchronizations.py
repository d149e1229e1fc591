"""Counts how often an iteration makes the host wait for the accelerator, by line of code."""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_WARNING = "synchronizing CUDA operation"  # in the warning of torch
_SKIPPED = {"torch", "warnings", "_py_warnings"}  # packages whose lines are not of interest
# Read values that are on the CPU in any case, or read them only if they are on the CPU.
_NOT_COUNTED = ("torch.optim", "footplate.optim", "footplate.records")
_aten = torch.ops.aten
# Operators that return a Python value or a tensor whose shape depends on values.
_WAITING = {
    _aten._local_scalar_dense,
    _aten.equal,
    _aten.nonzero,
    _aten.masked_select,
    _aten._unique2,
    _aten.unique_consecutive,
    _aten.unique_dim,
    _aten.bincount,
}
# Methods that copy to the CPU. For a tensor that is there, they call no operator.
_COPYING = {torch.Tensor.cpu, torch.Tensor.tolist}


@contextmanager
def counting_cuda_synchronizations() -> Iterator[Counter[str]]:
    """Yields a counter of the lines, `file:line`, at which the block makes the host wait for a CUDA device."""
    found: Counter[str] = Counter()

    def count(message: Warning | str, *_: Any, **__: Any) -> None:
        if _WARNING in str(message):
            _count_line(found, sys._getframe(1))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = count
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")


@contextmanager
def counting_host_reads() -> Iterator[Counter[str]]:
    """Yields a counter of the lines, `file:line`, that would wait for the accelerator if the tensors were on one.

    For a block that computes on the CPU. Detects operators whose result the host needs, such as `item`, `nonzero` and
    indexing with a mask, and copies to the CPU. Calls of optimizers and their wrappers are not counted. A copy to a
    device that is computed, as in `x.to(self.device)`, is not counted either.
    """
    found: Counter[str] = Counter()
    with _Functions(found), _Operators(found):
        yield found


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operators that wait."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket in _WAITING or _has_mask(func, args):
            _count_line(self.found, sys._getframe(1))
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    """Counts methods that copy to the CPU."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        is_copied = func is torch.Tensor.to and any(isinstance(each, str) and each == "cpu" for each in args)
        if is_copied or func in _COPYING:
            _count_line(self.found, sys._getframe(1))
        before = Counter(self.found)
        result = func(*args, **(kwargs or {}))
        if func is torch.nn.functional.one_hot:  # reads the range of its input only on the CPU
            self.found.clear()
            self.found.update(before)
        return result


def _has_mask(func: Any, args: tuple[Any, ...]) -> bool:
    """Checks whether an operator indexes a tensor with a mask, for which it computes the indices first.

    Assigning one value with a mask needs no indices.
    """
    if func.overloadpacket not in (_aten.index, _aten.index_put, _aten.index_put_):
        return False
    is_filled = func.overloadpacket is not _aten.index and args[2].numel() == 1
    masks = [each for each in args[1] if each is not None and each.dtype in (torch.bool, torch.uint8)]
    return bool(masks) and not is_filled


def _count_line(found: Counter[str], frame: FrameType | None) -> None:
    """Counts the innermost line outside torch, unless a module that is not counted called it."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module.startswith(_NOT_COUNTED):
            return
        if module.partition(".")[0] not in _SKIPPED and module != __name__:
            path = os.path.relpath(frame.f_code.co_filename)
            path = frame.f_code.co_filename if path.startswith(os.pardir) else path
            found[f"{path}:{frame.f_lineno}"] += 1
            return
        frame = frame.f_back
