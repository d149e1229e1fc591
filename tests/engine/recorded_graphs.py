"""A stand-in for CUDA graphs on a CPU: it records the operations of torch and repeats them on the same memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NOT_PERMITTED = "CUDA error: operation not permitted when stream is capturing"
_WAITING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


def _tensors(value: Any) -> list[Tensor]:
    return [each for each in tree_leaves(value) if isinstance(each, Tensor) and each.layout is torch.strided]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operation, and the values of all tensors that existed before."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.earlier: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}  # with copies, by address
        self.computed: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _WAITING:
            raise RuntimeError(NOT_PERMITTED)
        for each in _tensors((args, kwargs)):
            storage = each.untyped_storage()
            address = storage.data_ptr()
            if address not in self.computed and address not in self.earlier:
                self.earlier[address] = storage, storage.clone()  # type: ignore[no-untyped-call]
        result = func(*args, **kwargs)
        for each in _tensors(result):
            address = each.untyped_storage().data_ptr()
            if address not in self.earlier:
                self.computed.setdefault(address, each)
        self.calls.append((func, args, kwargs, result))
        return result


class RecordedGraphs:
    """Captures like CUDA graphs: a capture computes nothing, and a replay runs the same operations but no Python.

    After a replay, the memory of all graphs but those of the same step is overwritten, as in a shared memory pool.
    """

    def __init__(self) -> None:
        self.warm_ups = 0
        self.replays: list[int] = []  # the number of replays of each graph
        self._computed: list[list[Tensor]] = []

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        self.warm_ups += 1
        yield

    @torch.no_grad()
    def _overwrite(self, tensors: list[Tensor]) -> None:
        for each in tensors:
            if each.is_floating_point():
                each.data.fill_(float("nan"))

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        place = len(self.replays)
        random, recorder = torch.get_rng_state(), _Recorder()
        try:
            with recorder:
                function()
        except RuntimeError as error:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from error
        torch.set_rng_state(random)
        for storage, value in recorder.earlier.values():
            storage.copy_(value)
        self.replays.append(0)
        self._computed.append(list(recorder.computed.values()))
        self._overwrite(self._computed[place])

        @torch.no_grad()
        def replay() -> None:
            self.replays[place] += 1
            for other, tensors in enumerate(self._computed):
                if other // 2 != place // 2:
                    self._overwrite(tensors)
            with torch.autocast("cpu", enabled=False):
                for func, args, kwargs, result in recorder.calls:
                    for old, new in zip(_tensors(result), _tensors(func(*args, **kwargs)), strict=True):
                        if old.data_ptr() != new.data_ptr():
                            old.data.copy_(new)

        return replay
