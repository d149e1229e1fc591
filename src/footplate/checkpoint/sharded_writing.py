"""Writes sharded checkpoints: each rank writes its own file, and the layout is written last.

The shards are written with torch.distributed.checkpoint (DCP). Import this module only when it is needed, because the
import is slow. Files that footplate did not write are never replaced.
"""

import contextlib
import dataclasses
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from footplate import storage
from footplate.checkpoint.digest import sha256_of_file
from footplate.checkpoint.saver import commit_checkpoint
from footplate.checkpoint.serializable import Shard, bytes_in
from footplate.checkpoint.shard_layout import (
    Chunk,
    FileDigest,
    Layout,
    StoredTensor,
    has_own_layout,
    is_committed,
    is_own_file,
    is_sharded_path,
    remove_own_files,
    remove_sharded,
    write_layout,
)
from footplate.errors import CheckpointError
from footplate.messages import format_bytes, list_names

_PIECE_BYTES = 16 << 20
_SHOWN_NAMES = 3


def save_shards(
    state: Mapping[str, Any],
    shards: Mapping[str, Shard],
    folder: str,
    group: Any = None,
    error: BaseException | None = None,
) -> None:
    """Writes a sharded checkpoint. Every rank of the group must call this function with its own shards.

    Each rank writes its shards to its own file. When all ranks are done, rank 0 writes the layout. This commits the
    checkpoint. A previous checkpoint in the folder is kept until then and removed afterwards.

    Args:
        state: A serializable state with references in place of tensors. Only the state of rank 0 is used.
        shards: The shards of this rank, on the CPU.
        folder: The output folder.
        group: The process group, or None for a single process.
        error: An error that occurred while this rank prepared its shards. If it is given, no checkpoint is written, and
            all ranks raise the error.

    Raises:
        CheckpointError: A process failed. The message contains its rank and the reason.
    """
    planner, writer = ShardPlanner(shards, error), FolderWriter(folder, state)
    if group is None:
        _save_in_one_process([planner], writer)
        return
    try:
        save({}, storage_writer=writer, planner=planner, process_group=group)
    except CheckpointException as failed:
        if dist.get_rank(group) == 0:
            writer.drop()
        rank, (cause, _) = min(failed.failures.items(), key=lambda each: each[0])
        reason = getattr(cause, "strerror", None) or getattr(cause, "message", None) or cause
        notes = getattr(cause, "notes", ())
        raise CheckpointError(f"cannot save '{folder}': rank {rank}: {reason}", notes=notes) from cause
    except (RuntimeError, dist.DistError) as failed:  # a rank died or does not respond
        raise CheckpointError(f"cannot save '{folder}': another process has ended or does not respond") from failed


def save_all_shards(
    state: Mapping[str, Any],
    shards: Sequence[Mapping[str, Shard]],
    folder: str,
    *,
    drop: Callable[[], Any] = lambda: None,
) -> None:
    """Writes a sharded checkpoint from a single process that has all shards.

    Args:
        state: A serializable state with references in place of tensors.
        shards: The shards for each file.
        folder: The output folder.
        drop: Called before each shard is written, to release the memory pages of earlier shards.

    Raises:
        CheckpointError: Writing failed. An existing checkpoint is unchanged.
    """
    writer = FolderWriter(folder, state, clean_parent=False)
    _save_in_one_process([ShardPlanner(each, drop=drop) for each in shards], writer)


def _save_in_one_process(planners: Sequence[Any], writer: Any) -> None:
    """Performs the steps of `torch.distributed.checkpoint.save` for all plans in this process."""
    plans = []
    for planner in planners:
        planner.set_up_planner({}, None, True)
        plans.append(planner.create_local_plan())
    plans, metadata = planners[0].create_global_plan(plans)
    try:
        try:
            plans = writer.prepare_global_plan(plans)
        except CheckpointError as error:
            raise CheckpointError(f"cannot save '{writer.folder}': {error.message}", notes=error.notes) from error
        results = [writer.write_data(plan, each).wait() for plan, each in zip(plans, planners, strict=True)]
        writer.finish(metadata, results)
    except OSError as error:
        writer.drop()
        raise CheckpointError(f"cannot save '{writer.folder}': {error.strerror or error}") from error


class ShardPlanner(DefaultSavePlanner):
    """Plans the writing of shards.

    Args:
        shards: Maps tensor names to the shards of this rank.
        error: An error that occurred while the shards were prepared. It is raised during planning, which reports it
            to the other ranks.
        drop: Called before each shard is written, to free the memory of earlier shards.
    """

    def __init__(
        self, shards: Mapping[str, Shard], error: BaseException | None = None, *, drop: Callable[[], Any] = lambda: None
    ) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._shards = shards
        self._error = error
        self._drop = drop

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:
        """Ignores `state_dict`, because only the shards are written."""
        super().set_up_planner({}, storage_meta, is_coordinator)

    def create_local_plan(self) -> SavePlan:
        """Returns a plan with an item for each non-empty shard.

        Raises:
            BaseException: The error that occurred while the shards were prepared.
        """
        if self._error is not None:
            raise self._error
        items = []
        for name, shard in self._shards.items():
            if shard.tensor.numel():
                offsets = torch.Size(shard.offsets)
                data = TensorWriteData(
                    chunk=ChunkStorageMetadata(offsets=offsets, sizes=shard.tensor.size()),
                    properties=TensorProperties(dtype=shard.tensor.dtype),
                    size=torch.Size(shard.size),
                )
                items.append(WriteItem(MetadataIndex(name, offsets), WriteItemType.SHARD, tensor_data=data))
        self.plan = SavePlan(items)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        """Returns the values of a shard."""
        self._drop()
        return self._shards[write_item.index.fqn].tensor


class FolderWriter(StorageWriter):
    """Writes the shards of this rank to one file. The coordinator also writes the state and the layout.

    File names are unique to each save, so that the files of an existing checkpoint are not overwritten.

    Args:
        folder: The folder.
        state: Everything that is not sharded. Only the state of the coordinator is used.
        clean_parent: Whether to remove unfinished saves in the parent folder. No other process may be saving there.
    """

    def __init__(self, folder: str, state: Mapping[str, Any], *, clean_parent: bool = True) -> None:
        self.folder = storage.absolute(folder)
        self._clean_parent = clean_parent
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
            CheckpointError: There is too little space, or the folder contains files that footplate did not write.
        """
        check_writable(self.folder)
        self._save = save = secrets.token_hex(4)
        if self._clean_parent:
            remove_unfinished(storage.parent(self.folder), but=storage.base_name(self.folder))
        storage.make_dirs(self.folder)
        storage.clean_stale(self.folder)
        needed = bytes_in(self._state) + sum(_bytes_of(item) for plan in plans for item in plan.items)
        free = storage.free_space(self.folder)
        if free is not None and free < needed:
            raise CheckpointError(f"it needs {format_bytes(needed)}, but only {format_bytes(free)} are free")
        names = [f"rank_{number}-{save}.bin" for number in range(len(plans))]
        return [dataclasses.replace(plan, storage_data=name) for plan, name in zip(plans, names, strict=True)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[list[WriteResult]]":
        """Writes the shards of this rank to its file, one after the other."""
        name, starts, size, sha256 = plan.storage_data, [], 0, hashlib.sha256()
        if plan.items:
            with storage.atomic_file(storage.join(self.folder, name)) as sink:
                for item in plan.items:
                    starts.append(size)
                    tensor = torch.as_tensor(planner.resolve_data(item)).detach()
                    rows = tensor.reshape(tensor.shape[0] if tensor.dim() else 1, -1)
                    length = max(1, _PIECE_BYTES // (rows.shape[1] * rows.element_size()))
                    for begin in range(0, rows.shape[0], length):
                        piece = rows[begin : begin + length].cpu().contiguous()
                        content = piece.view(-1).view(torch.uint8).numpy().data
                        sha256.update(content)
                        sink.write(content)
                        size += len(content)
        results = [
            WriteResult(item.index, _bytes_of(item), (name, start, size, sha256.hexdigest()))
            for item, start in zip(plan.items, starts, strict=True)
        ]
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Writes the state file and then the layout. Writing the layout commits the checkpoint."""
        written = [each for several in results for each in several]
        files = {name: FileDigest(size, sha) for name, _, size, sha in (each.storage_data for each in written)}
        name = f"state-{self._save}.pth"
        path = storage.join(self.folder, name)
        commit_checkpoint(self._state, path)
        files[name] = FileDigest(storage.status(path).size, sha256_of_file(path))
        places = {(each.index.fqn, tuple(each.index.offset or ())): each.storage_data for each in written}
        tensors = {}
        for key, each in cast(Mapping[str, Any], metadata.state_dict_metadata).items():
            chunks = []
            for chunk in each.chunks:
                file, start, *_ = places[key, tuple(chunk.offsets)]
                chunks.append(Chunk(tuple(chunk.offsets), tuple(chunk.sizes), file, start))
            tensors[key] = StoredTensor(each.properties.dtype, tuple(each.size), chunks)
        write_layout(self.folder, Layout(name, tensors, files))
        # The other files belong to the previous checkpoint and to failed saves.
        remove_own_files(self.folder, (name for name in storage.list_dir(self.folder) if name not in files))

    def drop(self) -> None:
        """Removes the files that this save wrote, unless the folder already contains a checkpoint."""
        with contextlib.suppress(OSError):
            if self._save is not None and not is_committed(self.folder):
                names = storage.list_dir(self.folder)
                own = [name for name in names if f"-{self._save}." in name]
                remove_own_files(self.folder, own)
                if own == names:
                    storage.remove_empty_folder(self.folder)


def _bytes_of(item: WriteItem) -> int:
    data: Any = item.tensor_data
    return int(data.chunk.sizes.numel() * data.properties.dtype.itemsize)


def check_writable(folder: str) -> None:
    """Checks that a sharded checkpoint may be written to a folder.

    Raises:
        CheckpointError: The folder contains files that footplate did not write, or it is not a folder.
        OSError: The folder cannot be read.
    """
    if not storage.exists(folder):
        if storage.is_link(folder):
            raise CheckpointError("it is a broken symbolic link", notes=["Remove the link."])
        return
    if has_own_layout(folder):
        return
    try:
        foreign = [name for name in storage.list_dir(folder) if not is_own_file(name)]
    except NotADirectoryError as error:
        raise CheckpointError("it is a file, not a folder", notes=["Choose another name, or move the file."]) from error
    if foreign:
        raise CheckpointError(
            f"it contains files that footplate did not write: {list_names(foreign, _SHOWN_NAMES)}",
            notes=["Choose another folder, or move the files."],
        )


def remove_unfinished(folder: str, *, but: str) -> list[str]:
    """Removes unfinished sharded checkpoints in `folder`, except the one named `but`.

    Removes only folders without other files. No other run can be saving there, because a run locks its work_dir.

    Returns:
        The paths of the removed folders.
    """
    removed = []
    for name in storage.list_dir(folder) if storage.exists(folder) else ():
        path = storage.join(folder, name)
        if is_sharded_path(name) and name != but and not storage.is_link(path):
            with contextlib.suppress(OSError):  # a folder that cannot be read or removed must not stop a save
                names = storage.list_dir(path)
                if names and all(map(is_own_file, names)):
                    remove_sharded(path)
                    removed.append(path)
    return removed
