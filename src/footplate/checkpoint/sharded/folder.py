"""Writes the folder of a sharded checkpoint for torch.distributed.checkpoint."""

import contextlib
import dataclasses
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from footplate import storage
from footplate.checkpoint._plain import bytes_in
from footplate.checkpoint._words import readable_size
from footplate.checkpoint.saving import commit_plain
from footplate.checkpoint.sharded.layout import (
    Chunk,
    Digest,
    Layout,
    Tensors,
    digest_of,
    is_committed,
    read_layout,
    write_layout,
)
from footplate.checkpoint.sharded.ownership import check_writable, clean_unfinished, remove_written
from footplate.errors import CheckpointError
from footplate.storage import Sink

_PIECE_BYTES = 16 << 20


class FolderWriter(StorageWriter):
    """Writes the shards of this rank to one file; the coordinator also writes the state and the layout.

    File names are unique to each save, so that the files of an existing checkpoint are not overwritten.

    Args:
        folder: The folder.
        state: Everything that is not sharded; only that of the coordinator is used.
        tidy: Whether to remove unfinished saves in the parent folder, which requires that no other process saves there.
    """

    def __init__(self, folder: str, state: Mapping[str, Any], *, tidy: bool = True) -> None:
        self.folder = storage.absolute(folder)
        self._tidy = tidy
        self._save: str | None = None  # an id in the names of all files of this save
        self._state = state

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Returns True, because any folder is accepted."""
        return True

    def reset(self, checkpoint_id: Any = None) -> None:
        """Does nothing, because each save uses a new writer."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Does nothing, because no setup is needed before planning."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Returns the plan unchanged."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Creates the folder and assigns a file name to each rank.

        Raises:
            CheckpointError: There is too little space, or the folder holds files that footplate did not write.
        """
        check_writable(self.folder)
        self._save = save = secrets.token_hex(4)
        if self._tidy:
            clean_unfinished(storage.parent(self.folder), but=storage.base_name(self.folder))
        _make_room(self.folder, bytes_in(self._state) + sum(_bytes_of(item) for plan in plans for item in plan.items))
        names = [f"rank_{number}-{save}.bin" for number in range(len(plans))]
        return [dataclasses.replace(plan, storage_data=name) for plan, name in zip(plans, names, strict=True)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[list[WriteResult]]":
        """Writes the file of this rank."""
        done: Future[list[WriteResult]] = Future()
        if not plan.items:
            done.set_result([])
            return done
        tensors = (torch.as_tensor(planner.resolve_data(item)) for item in plan.items)
        starts, digest = _write_tensors(storage.join(self.folder, plan.storage_data), tensors)
        done.set_result(
            [
                WriteResult(item.index, _bytes_of(item), (plan.storage_data, start, *digest))
                for item, start in zip(plan.items, starts, strict=True)
            ]
        )
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Writes the state, then the layout, which commits the checkpoint."""
        written = [each for several in results for each in several]
        files = {name: Digest(size, sha) for name, _, size, sha in (each.storage_data for each in written)}
        name = f"state-{self._save}.pth"
        path = storage.join(self.folder, name)
        commit_plain(self._state, path)
        files[name] = Digest(storage.status(path).size, digest_of(path))
        places = {(each.index.fqn, tuple(each.index.offset or ())): each.storage_data for each in written}
        write_layout(self.folder, Layout(name, _tensors_of(metadata, places), files))
        _clean(self.folder)

    def drop(self) -> None:
        """Removes the files of this save, unless the folder already contains a checkpoint."""
        with contextlib.suppress(OSError):
            if self._save is not None and not is_committed(self.folder):
                names = storage.list_dir(self.folder)
                own = [name for name in names if f"-{self._save}." in name]
                remove_written(self.folder, own)
                if own == names:
                    storage.remove_empty_folder(self.folder)


def _tensors_of(
    metadata: Metadata, places: Mapping[tuple[str, tuple[int, ...]], tuple[Any, ...]]
) -> dict[str, Tensors]:
    found = {}
    several: Mapping[str, Any] = metadata.state_dict_metadata
    for name, each in several.items():
        chunks = []
        for chunk in each.chunks:
            file, start, *_ = places[name, tuple(chunk.offsets)]
            chunks.append(Chunk(tuple(chunk.offsets), tuple(chunk.sizes), file, start))
        found[name] = Tensors(each.properties.dtype, tuple(each.size), chunks)
    return found


def _make_room(folder: str, needed: int) -> None:
    storage.make_dirs(folder)
    storage.clean_stale(folder)
    free = storage.free_space(folder)
    if free is not None and free < needed:
        raise CheckpointError(f"it needs {readable_size(needed)}, and {readable_size(free)} are free")


def _clean(folder: str) -> None:
    """Removes the files of the previous checkpoint and of failed saves."""
    named = read_layout(folder).files
    remove_written(folder, (name for name in storage.list_dir(folder) if name not in named))


def _write_tensors(path: str, tensors: Iterable[torch.Tensor]) -> tuple[list[int], Digest]:
    starts: list[int] = []
    hashed = hashlib.sha256()
    size = 0

    def write(sink: Sink) -> None:
        nonlocal size
        for tensor in tensors:
            starts.append(size)
            for piece in _pieces_of(tensor):
                hashed.update(piece)
                sink.write(piece)
                size += len(piece)

    storage.commit_file(path, write)
    return starts, Digest(size, hashed.hexdigest())


def _pieces_of(tensor: torch.Tensor) -> Iterator[memoryview]:
    """Yields the bytes of a tensor in order, in pieces of limited size."""
    rows = tensor.reshape(1, -1) if not tensor.dim() else tensor.reshape(tensor.shape[0], -1)
    length = max(1, _PIECE_BYTES // max(1, rows.shape[1] * rows.element_size()))
    for begin in range(0, rows.shape[0], length):
        piece = rows[begin : begin + length].detach().cpu().contiguous()
        yield piece.view(-1).view(torch.uint8).numpy().data


def _bytes_of(item: WriteItem) -> int:
    data: Any = item.tensor_data
    return int(data.chunk.sizes.numel() * data.properties.dtype.itemsize)
