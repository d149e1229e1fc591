"""Saves and loads sharded checkpoints with torch.distributed.checkpoint (DCP).

DCP splits the work across ranks, reshards tensors, and re-raises errors from any rank on all ranks. Import this module
only when it is needed, because importing DCP is slow.
"""

import dataclasses
import secrets
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import distributed as dist
from torch.distributed import tensor as dtensor
from torch.distributed.checkpoint import planner as planning
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from footplate import storage
from footplate.checkpoint.contents import open_shards, read_layout
from footplate.checkpoint.saver import check_space, write_file
from footplate.checkpoint.serializable import (
    TensorShard,
    bytes_in,
    join_state,
    to_serializable,
)
from footplate.checkpoint.shard_layout import FORMAT, ShardLayout, remove_own_files
from footplate.checkpoint.torch_file import read_content
from footplate.checkpoint_names import STATE
from footplate.distributed.sharding import is_dtensor, is_sharded, reshard
from footplate.errors import CheckpointError


def save_shards(
    state: Mapping[str, Any],
    shards: Iterable[tuple[str, TensorShard]],
    folder: str,
    group: Any = None,
    error: BaseException | None = None,
) -> None:
    """Writes a sharded checkpoint. All ranks in the group must call this function.

    After all ranks have written their shards, rank 0 writes the state, which commits the checkpoint. A previous
    checkpoint in the folder is kept until then, and removed afterwards.

    Args:
        state: A serializable state with references in place of sharded tensors. Only rank 0's state is used.
        shards: The names and shards of this rank, on the CPU.
        folder: The output folder.
        group: The process group, or None if a single process has all shards.
        error: An error from preparing this rank's shards. If it is set, no checkpoint is written, and all ranks raise
            the error.

    Raises:
        CheckpointError: A process failed. The message states its rank and the reason.
    """
    indexed: Any = {MetadataIndex(name, shard.offsets): shard for name, shard in shards}
    planner = _Planner(flatten_state_dict=False, flatten_sharded_tensors=False)
    writer = _FolderWriter(storage.absolute(folder), state, error)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about saving in a single process
            save(indexed, storage_writer=writer, planner=planner, process_group=group, no_dist=group is None)
    except CheckpointException as failed:
        rank, (cause, _) = min(failed.failures.items())
        reason = getattr(cause, "strerror", None) or getattr(cause, "message", None) or cause
        place = "" if group is None else f"rank {rank}: "
        notes = getattr(cause, "notes", ())
        raise CheckpointError(f"cannot save '{folder}': {place}{reason}", notes=notes) from cause
    except (RuntimeError, dist.DistError) as failed:  # a rank died or is not responding
        raise CheckpointError(f"cannot save '{folder}': another process has ended or is not responding") from failed


class _Planner(DefaultSavePlanner):
    """A DCP planner for a state dict that maps indices to shards."""

    def create_local_plan(self) -> SavePlan:
        items = []
        for index, shard in cast("dict[Any, TensorShard]", self.state_dict).items():
            if shard.tensor.numel():
                chunk = ChunkStorageMetadata(torch.Size(shard.offsets), shard.tensor.size())
                properties = TensorProperties(dtype=shard.tensor.dtype)
                data = planning.TensorWriteData(chunk, properties, torch.Size(shard.size))
                items.append(planning.WriteItem(index, planning.WriteItemType.SHARD, tensor_data=data))
        self.plan = SavePlan(items)
        return self.plan

    def resolve_data(self, write_item: planning.WriteItem) -> torch.Tensor:
        shard: TensorShard = self.state_dict[cast(Any, write_item.index)]
        return shard.tensor


class _FolderWriter(FileSystemWriter):
    """Writes each rank's shards to a file. The coordinator also writes the state, which commits the checkpoint."""

    def __init__(self, folder: str, state: Mapping[str, Any], error: BaseException | None) -> None:
        super().__init__(folder)
        self._folder = folder
        self._state = state
        self._error = error

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        if self._error is not None:
            raise self._error
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Creates the folder, and assigns file names.

        File names contain the rank and a random id, so that the files of an existing checkpoint are not overwritten.
        """
        storage.make_dirs(self._folder)
        items = [cast(planning.TensorWriteData, item.tensor_data) for plan in plans for item in plan.items]
        sizes = [item.chunk.sizes.numel() * item.properties.dtype.itemsize for item in items]
        check_space(self._folder, sum(sizes) + bytes_in(self._state))
        save_id = secrets.token_hex(4)
        return [dataclasses.replace(plan, storage_data=(rank, save_id)) for rank, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[list[WriteResult]]":
        rank, save_id = cast(Any, plan.storage_data)
        results = []
        if plan.items:
            name = f"rank_{rank}-{save_id}.pth"
            tensors = to_serializable({item.index.fqn: planner.resolve_data(item) for item in plan.items})
            digest = write_file(tensors, storage.join(self._folder, name))
            results = [WriteResult(item.index, 0, (name, digest.sha256)) for item in plan.items]
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Writes the state, and removes the files of the previous checkpoint and of failed saves."""
        places = {result.index: result.storage_data for part in results for result in part}
        tensors = {}
        files = dict(places.values())
        for name, tensor in cast("dict[str, TensorStorageMetadata]", metadata.state_dict_metadata).items():
            chunks = [
                (chunk.offsets, chunk.sizes, places[MetadataIndex(name, chunk.offsets)][0]) for chunk in tensor.chunks
            ]
            tensors[name] = (tensor.properties.dtype, tensor.size, chunks)
        content = {"format": FORMAT, "state": self._state, "tensors": tensors, "files": files}
        write_file(to_serializable(content), storage.join(self._folder, STATE))
        remove_own_files(self._folder, keep={*files, STATE})


class _FolderReader(FileSystemReader):
    """Reads shards from the folder of a sharded checkpoint."""

    def __init__(self, folder: str, layout: ShardLayout) -> None:
        super().__init__(folder)
        self._folder = folder
        self._layout = layout

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        tensors: dict[str, Any] = {}
        for name, (dtype, size, stored) in self._layout.tensors.items():
            chunks = [ChunkStorageMetadata(torch.Size(chunk.offsets), torch.Size(chunk.sizes)) for chunk in stored]
            tensors[name] = TensorStorageMetadata(TensorProperties(dtype=dtype), torch.Size(size), chunks)
        return Metadata(tensors, storage_data={})

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> "Future[None]":
        """Verifies and reads the files that contain shards for this rank, one at a time."""
        parts: dict[str, list[planning.ReadItem]] = defaultdict(list)
        for item in plan.items:
            chunks = self._layout.tensors[item.storage_index.fqn].chunks
            parts[chunks[cast(int, item.storage_index.index)].file].append(item)
        for name, items in parts.items():
            with open_shards(self._folder, self._layout, name) as stream:
                tensors = read_content(stream).value
            for item in items:
                tensor = tensors[item.storage_index.fqn]
                for dim, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                    tensor = tensor.narrow(dim, start, length)
                target = planner.resolve_tensor(item).detach()
                target.copy_(tensor)
                planner.commit_tensor(item, target)
        future: Future[None] = Future()
        future.set_result(None)
        return future


def load_sharded(folder: str, device: torch.device, like: torch.nn.Module | None = None) -> Any:
    """Verifies a sharded checkpoint and returns its content.

    Args:
        folder: The folder of the checkpoint.
        device: The device for the tensors.
        like: The model to load into. If its parameters are sharded, all ranks must call this function, and the tensors
            are sharded like the parameters. Each rank then verifies and reads only the files with its own shards.

    Raises:
        CheckpointDamagedError: A file that one of the ranks reads does not match its checksum.
        CheckpointError: The folder does not exist or is not a checkpoint.
    """
    layout = read_layout(folder, device)
    targets = layout.empty_tensors(device)
    is_split = like is not None and is_sharded(like)
    if like is not None and is_split:
        model: Any = next(weight for weight in reshard(like).parameters() if is_dtensor(weight))
        split = {"device_mesh": model.device_mesh, "placements": model.placements}
        for name, tensor in layout.tensors.items():
            if tensor.size:
                targets[name] = dtensor.empty(tensor.size, dtype=tensor.dtype, **split)
    if targets:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns about loading in a single process
                load(dict(targets), storage_reader=_FolderReader(folder, layout), no_dist=not is_split)
        except CheckpointException as failed:
            cause = next(iter(failed.failures.values()))[0]
            if isinstance(cause, CheckpointError):
                raise cause from failed
            raise CheckpointError(f"cannot read checkpoint '{folder}': {cause}") from failed
    return join_state(layout.state, targets)
