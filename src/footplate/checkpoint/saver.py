"""Writes checkpoints atomically, either synchronously or in a background thread."""

import logging
import mmap
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from footplate import storage
from footplate.checkpoint.contents import explaining
from footplate.checkpoint.digest import Digest, DigestSink
from footplate.checkpoint.run_checkpoints import write_pointer
from footplate.checkpoint.serializable import (
    bytes_in,
    rebuild,
    split_state,
    tensors_in,
    to_serializable,
)
from footplate.checkpoint.shard_layout import remove_sharded, remove_unfinished
from footplate.checkpoint_names import is_sharded_path, sharded_name
from footplate.checks import check_choice
from footplate.distributed import get_world_size, is_main_process
from footplate.distributed.sharding import new_cpu_group
from footplate.messages import first_line, format_bytes

_logger = logging.getLogger("footplate.checkpoint")
_NOT_UPDATED = "saved, but updating its folder failed"
_ALIGNMENT = 64


@dataclass(frozen=True)
class SaveRequest:
    """A checkpoint that a hook asks the training loop to save.

    | save | updates the pointer | becomes `last` | found by `resume=True` |
    |---|---|---|---|
    | at an interval, at the end or on request | yes | yes | first |
    | a best checkpoint | until the first of those above | if it updates the pointer | if it is the pointer's target |
    | `Runner.save_checkpoint`, in a script or hook | no, as in MMEngine | yes, if complete | after the first |

    A complete checkpoint contains the optimizer and schedule states. `run_checkpoints.py` defines the words.

    Attributes:
        path: The file or folder.
        home: The folder whose pointer is updated, or None.
        save_optimizer: Whether to include the optimizer state.
        save_param_scheduler: Whether to include the state of the schedules.
        is_final: Whether the checkpoint marks the end of the run, which then does not repeat what follows the save.
    """

    path: str
    home: str | None = None
    save_optimizer: bool = True
    save_param_scheduler: bool = True
    is_final: bool = False


class Saved(NamedTuple):
    """The outcome of a save.

    Attributes:
        path: The file or folder.
        error: The reason why the checkpoint was not saved, or None if it was saved and the pointer updated.
    """

    path: str
    error: BaseException | None = None


class _Save:
    """A save operation and its outcome. The error is None if the operation is in progress or has succeeded."""

    def __init__(self, path: str, home: str | None, *, becomes_last: bool) -> None:
        self.path = path
        self.home = home
        self.becomes_last = becomes_last
        self.begin = time.monotonic()
        self.seconds = 0.0
        self.is_saved = False
        self.has_ended = False
        self.error: BaseException | None = None
        self.thread: threading.Thread
        # All ranks write a sharded checkpoint, and rank 0 commits it.
        self.is_committed_here = is_main_process() or not is_sharded_path(path)


def save_checkpoint(state: Mapping[str, Any], path: "str | os.PathLike[str]") -> None:
    """Writes `state` and its digest to a file atomically.

    Writes the state to a temporary file and renames it to `path`; see `storage.atomic_file`. The result can be loaded
    with `torch.load(path, weights_only=True)`. Also removes stale temporary files from the folder, if it is local.

    Args:
        state: Tensors, numbers, strings, None, lists, tuples and dicts. NumPy arrays become tensors (string arrays
            become lists), NumPy scalars become Python scalars, and other mappings become dicts.
        path: A local path, or a URL that fsspec supports.

    Raises:
        CheckpointError: The state contains an unsupported type, there is too little space, or the file cannot be
            written.
    """
    commit_checkpoint(to_serializable(state), os.fspath(path))


def commit_checkpoint(state: Mapping[str, Any], path: str) -> None:
    """Writes a state that `to_serializable` has already converted; see `save_checkpoint`.

    Raises:
        CheckpointError: There is too little space, or the file cannot be written.
    """
    with explaining(f"cannot save '{path}'"):
        check_space(storage.parent(storage.absolute(path)), bytes_in(state))
        write_file(state, path)


def check_space(folder: str, needed: int) -> None:
    """Removes stale temporary files from a folder, and checks that it has `needed` bytes of free space.

    Raises:
        OSError: There is too little space, or the folder cannot be read.
    """
    storage.clean_stale(folder)
    free = storage.free_space(folder)
    if free is not None and free < needed:
        raise OSError(f"it needs {format_bytes(needed)}, but only {format_bytes(free)} is available")


def write_file(state: Mapping[str, Any], path: str) -> Digest:
    """Atomically writes a serializable state and its digest to a file, and returns the digest.

    Raises:
        OSError: The file cannot be written; see `storage.atomic_file`.
    """
    with storage.atomic_file(path) as sink:
        digesting = DigestSink(sink)
        torch.save(state, digesting)  # type: ignore[arg-type]
        return digesting.finish()


def remove_checkpoint(path: "str | os.PathLike[str]") -> None:
    """Removes a checkpoint if it exists.

    For a sharded checkpoint, removes the layout first, so that a partly removed checkpoint is never mistaken for an
    intact one, and keeps files in the folder that footplate did not write. If `path` is a symbolic link, removes only
    the link.

    Raises:
        CheckpointError: The checkpoint cannot be removed.
    """
    name = os.fspath(path)
    with explaining(f"cannot remove '{name}'"):
        if is_sharded_path(name):
            remove_sharded(name)
        else:
            storage.remove(name)


class BackgroundSaver:
    """Saves checkpoints in a background thread, one at a time. All saves reuse the same host memory for copies.

    The background thread writes the checkpoint and the pointer. The outcome is reported in the thread that calls
    `complete`, `wait` or the next `save`.

    A failed save does not change earlier checkpoints. The error is logged immediately.

    Args:
        on_error: "warn", or "stop" to also raise the error in the next `save` or `wait`.
        report: Called with the outcome of each save, on the rank that has committed it, or on each rank if it failed.

    Raises:
        ArgumentError: `on_error` is neither "warn" nor "stop".

    Example:
        >>> import tempfile
        >>> saver = BackgroundSaver()
        >>> path = os.path.join(tempfile.mkdtemp(), "iter_1.pth")
        >>> saver.save({"weight": torch.zeros(2)}, path)
        >>> saver.wait()
        >>> os.path.exists(path)
        True
    """

    def __init__(self, on_error: str = "stop", *, report: Callable[[Saved], None] = lambda _: None) -> None:
        self.on_error = check_choice("on_save_error", on_error, ("warn", "stop"))
        self.last: str | None = None  # see `SaveRequest`; or the checkpoint that the run resumed from
        self.failure: str | None = None  # the reason why the last save failed, or None if it succeeded
        self.seconds = 0.0  # the duration of the longest save
        self.is_sharded = False  # whether ranks write their own shards, to a folder; set by CheckpointHook
        self.write_pointer: Callable[[str, str], None] = write_pointer  # hooks may replace it, to also update a link
        self._report = report
        self.in_progress: _Save | None = None  # the save whose outcome has not been reported
        self._copier = _HostCopier()
        self._group: Any = None  # a separate group, so that messages of saves and training do not mix

    def name_of(self, name: str) -> str:
        """Returns `name` with the suffix `.sharded` if the run saves sharded checkpoints, and unchanged otherwise."""
        return sharded_name(name) if self.is_sharded else name

    def save(
        self,
        state: Mapping[str, Any],
        path: "str | os.PathLike[str]",
        *,
        home: str | None = None,
        becomes_last: bool = True,
    ) -> None:
        """Copies `state` to host memory and writes it to `path` in the background.

        Waits for the previous save first. For a sharded checkpoint, all ranks must call this method; each writes its
        own shards.

        Args:
            state: See `save_checkpoint`.
            path: See `save_checkpoint`. If the path ends in `.sharded`, a sharded checkpoint is written.
            home: The folder whose pointer is updated, or None.
            becomes_last: Whether the checkpoint becomes `last`; see `SaveRequest`.

        Raises:
            CheckpointError: `on_error` is "stop", and the state cannot be saved or the previous save failed. In the
                latter case, the new save does not start.
        """
        self.wait()
        save = _Save(os.fspath(path), home, becomes_last=becomes_last)
        try:
            if is_sharded_path(save.path):
                commit = self._prepare_shards(state, save.path)
            else:
                commit = partial(commit_checkpoint, self._copier.copy(to_serializable(state)), save.path)
            save.thread = threading.Thread(target=self._write, args=(save, commit), name="footplate-checkpoint")
            save.thread.start()  # raises an error if the system cannot start another thread
            self.in_progress = save
        except Exception as error:  # noqa: BLE001 - raised again if the policy is "stop"
            save.error = error
            self._log_failure("not saved", error, self.last)
            self._end(save)

    def _write(self, save: _Save, commit: Callable[[], None]) -> None:
        """Runs `commit` in the background thread, and records the outcome."""
        try:
            commit()
            save.is_saved = True
            if save.home is not None and save.is_committed_here:
                self.write_pointer(save.home, save.path)
        except BaseException as error:  # noqa: BLE001 - raised again by `wait`, in the caller's thread
            save.error = error
            failure = _NOT_UPDATED if save.is_saved else "not saved"
            self._log_failure(failure, error, save.path if save.is_saved else self.last)
        save.seconds = time.monotonic() - save.begin
        save.has_ended = True

    def complete(self) -> None:
        """Calls `wait` if a save has ended. Otherwise, does nothing.

        With several ranks, leaves errors to the next `save` or `wait`, so that all ranks raise them together
        (decision 037). With `on_error="stop"`, also leaves the report to it, because hooks may fail.
        """
        save = self.in_progress
        if save is None or not save.has_ended:
            return
        if get_world_size() == 1 or (save.error is None and self.on_error == "warn"):
            self.wait()

    def wait(self) -> None:
        """Waits for the save in progress, if any.

        Raises:
            CheckpointError: `on_error` is "stop" and the last save failed. Each error is raised only once.
        """
        save = self.in_progress
        if save is not None:
            save.thread.join()
            self.in_progress = None
            self._end(save)

    def report_error_in_folder(self, path: str, error: Exception) -> None:
        """Logs that the checkpoint `path` was saved, but its folder could not be updated.

        Raises:
            Exception: The error, if `on_error` is "stop".
        """
        self._log_failure(_NOT_UPDATED, error, path)
        if self.on_error == "stop":
            raise error

    def _log_failure(self, failure: str, error: BaseException, newest: str | None) -> None:
        last = f"The last checkpoint is '{newest}'." if newest else "This run has no checkpoint to resume from yet."
        _logger.error("The checkpoint was %s: %s\n  %s", failure, error, last)

    def _end(self, save: _Save) -> None:
        """Records and reports the outcome of a save. Raises its error, if any, unless `on_error` is "warn".

        | outcome | `last`, if `becomes_last` is set | reported |
        |---|---|---|
        | the checkpoint was not saved | unchanged | with the error |
        | it was saved, but the pointer could not be updated | the checkpoint | no |
        | it was saved | the checkpoint | yes |

        For a sharded checkpoint, ranks other than 0 keep their `last`, and report only errors.
        """
        self.failure = None if save.is_saved else first_line(save.error)
        if not save.is_saved:
            self._report(Saved(save.path, save.error))
        elif save.is_committed_here:
            self.seconds = max(self.seconds, save.seconds)
            if save.becomes_last:
                self.last = save.path
            if save.error is None:
                self._report(Saved(save.path))
        must_stop = self.on_error == "stop" or not isinstance(save.error, Exception)  # such as KeyboardInterrupt
        if save.error is not None and must_stop:
            raise save.error

    def _prepare_shards(self, state: Mapping[str, Any], path: str) -> Callable[[], None]:
        """Copies this rank's shards and returns a function that writes them.

        If copying fails, the returned function reports the error to all ranks.
        """
        from footplate.checkpoint.sharded import save_shards  # slow to import

        if self._group is None:
            self._group = new_cpu_group()
        try:
            if is_main_process():
                remove_unfinished(storage.parent(storage.absolute(path)))
            rest, shards = split_state(state)
            rest = to_serializable(rest)
            values = to_serializable({name: shard.tensor for name, shard in shards.items()})
            rest, values = self._copier.copy([rest if is_main_process() else {}, values])
        except Exception as error:  # noqa: BLE001 - raised in the background thread of every rank
            return partial(save_shards, {}, (), path, self._group, error)
        copied = [(name, shard._replace(tensor=values[name])) for name, shard in shards.items()]
        return partial(save_shards, rest, copied, path, self._group)


class _HostCopier:
    """Copies states into a reusable buffer in host memory."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, dtype=np.uint8)

    def copy(self, state: Any) -> Any:
        """Copies all storages of a state. Tensors that share memory still share it in the copy.

        Raises:
            MemoryError: There is not enough memory for a copy.
        """
        storages = {_address(tensor): tensor.untyped_storage() for tensor in tensors_in(state)}
        sizes = [-(-memory.nbytes() // _ALIGNMENT) * _ALIGNMENT for memory in storages.values()]
        if self._buffer.nbytes < sum(sizes):
            if torch.accelerator.is_available():
                self._buffer = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=True).numpy()
            else:
                self._buffer = np.frombuffer(mmap.mmap(-1, sum(sizes)), np.uint8)  # does not fragment the heap
        copies = {}
        start = 0
        for (address, memory), size in zip(storages.items(), sizes, strict=True):
            piece = self._buffer[start : start + memory.nbytes()]
            source = torch.empty(0, dtype=torch.uint8, device=memory.device).set_(memory)
            target = torch.from_numpy(piece)
            if memory.device.type == "cpu":
                np.copyto(piece, source.numpy())  # single-threaded, since torch's threads are busy with training
            else:
                target.copy_(source, non_blocking=True)
            copies[address] = target.untyped_storage()
            start += size
        if any(memory.device.type != "cpu" for memory in storages.values()):
            torch.accelerator.synchronize()

        def on_copy(_: str, tensor: Any) -> Any:
            if not isinstance(tensor, torch.Tensor):
                return tensor
            if not tensor.numel():  # needs its own address: torch refuses to save two dtypes at one address
                return torch.empty(tensor.shape, dtype=tensor.dtype)
            empty = torch.empty(0, dtype=tensor.dtype)
            return empty.set_(copies[_address(tensor)], tensor.storage_offset(), tensor.size(), tensor.stride())

        return rebuild(state, on_copy)


def _address(tensor: torch.Tensor) -> tuple[str, int]:
    return str(tensor.device), tensor.untyped_storage().data_ptr()
