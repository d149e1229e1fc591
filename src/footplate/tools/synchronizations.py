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
_SKIPPED = {"torch", "warnings", "_py_warnings"}  # packages whose lines are not reported
# These modules read only values that are always on the CPU, or check first that they are.
_NOT_COUNTED = ("torch.optim", "footplate.optim", "footplate.records")
_aten = torch.ops.aten
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_}
# Operators that return a Python value or a tensor whose shape depends on values.
_WAITING = {
    _aten._local_scalar_dense,
    _aten.equal,
    _aten.allclose,
    _aten.nonzero,
    _aten.masked_select,
    _aten._unique2,
    _aten.unique_consecutive,
    _aten.unique_dim,
    _aten.bincount,
}
# Methods that copy to the CPU. On a tensor that is already on the CPU, they call no operator.
_COPYING = {torch.Tensor.cpu, torch.Tensor.tolist}


@contextmanager
def counting_cuda_synchronizations() -> Iterator[Counter[str]]:
    """Counts how often the block makes the host wait for a CUDA device, by line of code (`file:line`)."""
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
    """Counts how often the block, which runs on the CPU, would wait for an accelerator, by line (`file:line`).

    Detects operators whose result the host needs, such as `item`, `nonzero` and indexing with a mask, and copies to
    the CPU. Does not count calls to optimizers and their wrappers, nor copies whose target device is not written
    literally, as in `x.to(self.device)`.
    """
    found: Counter[str] = Counter()
    with _Functions(found), _Operators(found):
        yield found


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operators for which the host would wait."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        waits = func.overloadpacket in _WAITING
        if func.overloadpacket in _INDEXING:  # computes indices from a mask, except for assigning one value
            has_mask = any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1])
            waits = has_mask and (func.overloadpacket is _aten.index or args[2].numel() != 1)
        if func is _aten.repeat_interleave.Tensor:  # counts the repetitions
            waits = not kwargs or kwargs.get("output_size") is None
        if waits:
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
        values = (*args, *(kwargs or {}).values())
        is_copied = func is torch.Tensor.to and any(isinstance(each, str) and each == "cpu" for each in values)
        if is_copied or func in _COPYING:
            _count_line(self.found, sys._getframe(1))
        before = Counter(self.found)
        result = func(*args, **(kwargs or {}))
        if func is torch.nn.functional.one_hot:  # reads the range of its input only on the CPU
            self.found.clear()
            self.found.update(before)
        return result


def _count_line(found: Counter[str], frame: FrameType | None) -> None:
    """Counts the innermost line outside torch, unless it was called by a module in `_NOT_COUNTED`."""
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
