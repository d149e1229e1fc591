"""Runs CUDA code on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CPU = torch.device("cpu")


class _CPUOnly(TorchFunctionMode):
    """Replaces "cuda" devices with the CPU in arguments to torch functions."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cuda:
            return args[0]
        if func is torch.device:
            return _CPU if args and type(args[0]) is int else _on_cpu(func(*args, **(kwargs or {})))
        if func is Tensor.to and len(args) > 1 and type(args[1]) is int:  # the index of a GPU
            args = (args[0], _CPU, *args[2:])
        kwargs = {name: _on_cpu(value) for name, value in (kwargs or {}).items()}
        if type(kwargs.get("device")) is int:
            kwargs["device"] = _CPU
        return func(*map(_on_cpu, args), **kwargs)


def _on_cpu(value: Any) -> Any:
    is_cuda = isinstance(value, str) and value.partition(":")[0] == "cuda"
    return _CPU if is_cuda or (isinstance(value, torch.device) and value.type == "cuda") else value


@contextmanager
def cuda_on_cpu() -> Iterator[None]:
    """Runs CUDA code on the CPU for the duration of the block.

    Inside the block, `.cuda()`, `device='cuda'`, `torch.cuda.device` and tensor types such as `torch.cuda.FloatTensor`
    use the CPU, and `torch.cuda.is_available()` returns False.
    """
    load = torch.load

    def load_on_cpu(f: Any, map_location: Any = _CPU, *args: Any, **options: Any) -> Any:
        return load(f, _on_cpu(map_location or _CPU), *args, **options)

    replaced: dict[str, Any] = {
        "is_available": lambda: False,
        "current_device": lambda: 0,
        "current_stream": lambda device=None: SimpleNamespace(cuda_stream=0),  # read by spconv
        "device": lambda index=None: nullcontext(),
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        **{name: getattr(torch, name) for name in vars(torch.cuda) if name.endswith("Tensor")},
    }
    with patch.object(torch, "load", load_on_cpu), patch.multiple(torch.cuda, **replaced), _CPUOnly():
        yield
