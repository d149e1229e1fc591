"""Saves checkpoints in a background thread; training waits only until the state is copied."""

import functools
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np
import torch

from footplate.checkpoint import saving
from footplate.checkpoint._plain import tensors_in, to_plain
from footplate.checkpoint.sharded import Part, is_folder, split
from footplate.checkpoint.sharded.splitting import cut_replicated
from footplate.checkpoint.sharded.writing import save_parts
from footplate.distributed import get_rank, get_world_size, is_main_process
from footplate.distributed.sharding import new_cpu_group

_logger = logging.getLogger("footplate.checkpoint")
_ALIGNMENT = 64


class BackgroundSaver:
    """Saves checkpoints in a background thread, one at a time.

    The host memory for the copy is reused by later saves. It is as large as one checkpoint.

    Example:
        >>> import tempfile
        >>> saver = BackgroundSaver()
        >>> path = os.path.join(tempfile.mkdtemp(), "iter_1.pth")
        >>> saver.save({"weight": torch.zeros(2)}, path)
        >>> saver.wait()
        >>> os.path.exists(path)
        True
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._copier = _HostCopier()
        self._group: Any = None  # a separate group, so that its messages do not mix with those of training

    def save(
        self,
        state: Mapping[str, Any],
        path: "str | os.PathLike[str]",
        *,
        then: Callable[[], None] | None = None,
        otherwise: Callable[[BaseException], None] | None = None,
        replicated: Set[int] = frozenset(),
    ) -> None:
        """Copies `state` to host memory and writes it to `path` in the background.

        Waits for the previous save first. A sharded checkpoint is saved by all ranks together; each rank writes its
        own shards.

        Args:
            state: See `save_checkpoint`.
            path: See `save_checkpoint`; a path that ends in `.sharded` is written as a sharded checkpoint.
            then: Called in the background thread after the commit, to move the pointer and remove older checkpoints.
            otherwise: Called in the background thread with the exception if the save fails; by default the failure
                is logged.
            replicated: Memory addresses of tensors that are replicated on all ranks. In a sharded checkpoint, each
                rank writes a part of each.

        Raises:
            CheckpointError: The state cannot be saved, or the save before this one failed (and this one was
                not begun).
        """
        self.wait()
        name = os.fspath(path)
        if is_folder(name):
            work = self._with_others(state, name, then, replicated)
        else:
            copied = self._copier.copy(to_plain(state))
            work = functools.partial(_commit, copied, name, then)
        self._begin(work, otherwise or _tell)

    def wait(self) -> None:
        """Waits until the current save ends.

        Raises:
            CheckpointError: The save that was in flight failed; told once. The log has it already.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _with_others(
        self, state: Mapping[str, Any], path: str, then: Callable[[], None] | None, replicated: Set[int]
    ) -> Callable[[], None]:
        """Copies the shards of this rank and returns a function that writes them.

        An error in the copy is not raised here: the returned function reports it to all ranks.
        """
        group = self._group = self._group or new_cpu_group()
        rest: Any = {}
        parts: dict[str, Part] = {}
        failed: Exception | None = None
        try:
            cut = cut_replicated(replicated, get_rank(), get_world_size())
            rest, parts = split(state, cut)
            rest = to_plain(rest)
            values = to_plain({name: part.tensor for name, part in parts.items()})
            rest, values = self._copier.copy([rest if is_main_process() else {}, values])
            parts = {name: part._replace(tensor=values[name]) for name, part in parts.items()}
        except Exception as error:  # noqa: BLE001 - raised in the background thread of every rank
            failed = error

        def work() -> None:
            save_parts(rest, parts, path, group, failed)
            if then is not None and is_main_process():
                then()

        return work

    def _begin(self, work: Callable[[], None], otherwise: Callable[[BaseException], None]) -> None:
        thread = threading.Thread(target=self._run, args=(work, otherwise), name="footplate-checkpoint")
        thread.start()  # raises if the system cannot start another thread; `_thread` must stay None then
        self._thread = thread

    def _run(self, work: Callable[[], None], otherwise: Callable[[BaseException], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by `wait`, in the caller's thread
            self._error = error
            otherwise(error)


def _tell(error: BaseException) -> None:
    _logger.error("a save in the background failed: %s", error)


def _commit(state: Mapping[str, Any], path: str, then: Callable[[], None] | None) -> None:
    saving.commit_plain(state, path)
    if then is not None:
        then()


class _HostCopier:
    """Copies states into one buffer in host memory, which is reused."""

    def __init__(self) -> None:
        self._arena = np.empty(0, dtype=np.uint8)

    def copy(self, plain: Any) -> Any:
        """Copies every storage of a plain state; tensors that share memory still do so in the copy.

        Raises:
            MemoryError: There is no room for a copy.
        """
        storages = {_address(tensor): tensor.untyped_storage() for tensor in tensors_in(plain)}
        self._allocate(sum(_aligned(memory.nbytes()) for memory in storages.values()))
        copies, start = {}, 0
        for address, memory in storages.items():
            piece = self._arena[start : start + memory.nbytes()]
            copies[address] = _copied_memory(memory, piece)
            start += _aligned(memory.nbytes())
        if any(memory.device.type != "cpu" for memory in storages.values()):
            torch.accelerator.synchronize()
        return _rebuilt(plain, copies)

    def _allocate(self, size: int) -> None:
        if self._arena.nbytes >= size:
            return
        if torch.accelerator.is_available():
            self._arena = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        else:
            self._arena = np.empty(size, np.uint8)  # numpy requests huge pages, torch does not


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _address(tensor: torch.Tensor) -> tuple[str, int]:
    return str(tensor.device), tensor.untyped_storage().data_ptr()


def _copied_memory(memory: torch.UntypedStorage, piece: "np.ndarray[Any, np.dtype[np.uint8]]") -> torch.UntypedStorage:
    source = torch.empty(0, dtype=torch.uint8, device=memory.device).set_(memory)
    target = torch.from_numpy(piece)
    if memory.device.type == "cpu":
        np.copyto(piece, source.numpy())  # single-threaded, because torch's threads are busy with training
    else:
        target.copy_(source, non_blocking=True)
    return target.untyped_storage()


def _rebuilt(plain: Any, copies: Mapping[tuple[str, int], torch.UntypedStorage]) -> Any:
    if isinstance(plain, torch.Tensor):
        if not plain.numel():  # without a shared address: torch refuses to save two dtypes at one address
            return torch.empty(plain.shape, dtype=plain.dtype)
        empty = torch.empty(0, dtype=plain.dtype)
        return empty.set_(copies[_address(plain)], plain.storage_offset(), plain.size(), plain.stride())
    if isinstance(plain, dict):
        rebuilt = type(plain)((key, _rebuilt(entry, copies)) for key, entry in plain.items())
        if isinstance(plain, OrderedDict) and hasattr(plain, "_metadata"):
            rebuilt._metadata = plain._metadata  # type: ignore[attr-defined]
        return rebuilt
    if isinstance(plain, (list, tuple)):
        return type(plain)(_rebuilt(entry, copies) for entry in plain)
    return plain
