"""Saves and loads sharded checkpoints, and converts them to single files and back."""

import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import distributed as dist

from footplate import storage
from footplate.checkpoint.contents import SUFFIXES, open_checkpoint
from footplate.checkpoint.saver import save_checkpoint
from footplate.checkpoint.serializable import Shard, cut_evenly, join_state, split_state, to_serializable
from footplate.checkpoint.shard_layout import is_sharded_path, read_layout
from footplate.checkpoint.torch_file import read_content
from footplate.checks import check_count
from footplate.distributed import get_rank, get_world_size, tensor_parallel_size
from footplate.distributed.sharding import is_dtensor, is_sharded, reshard, world_mesh
from footplate.errors import ArgumentError, CheckpointError


def save_shards(
    state: Mapping[str, Any],
    shards: Iterable[tuple[str, Shard]],
    folder: str,
    group: Any = None,
    error: BaseException | None = None,
    *,
    files: int = 1,
) -> None:
    """Writes a sharded checkpoint. Every rank of the group must call this function with its own shards.

    When all ranks have written their shards, rank 0 writes the layout. This commits the checkpoint. A previous
    checkpoint in the folder is kept until then and removed afterwards.

    Args:
        state: A serializable state with references in place of tensors. Only the state of rank 0 is used.
        shards: The names and shards of this rank, on the CPU.
        folder: The output folder.
        group: The process group, or None for a single process that has all shards.
        error: An error that occurred while this rank prepared its shards. If it is given, no checkpoint is written, and
            all ranks raise the error.
        files: The number of files of this rank.

    Raises:
        CheckpointError: A process failed. The message contains its rank and the reason.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_saver import save

    from footplate.checkpoint.sharded_storage import FolderWriter, ShardPlanner

    writer = FolderWriter(folder, state, files, clean_parent=files == 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the save in a single process
            planner = ShardPlanner(shards, error)
            save({}, storage_writer=writer, planner=planner, process_group=group, no_dist=group is None)
    except CheckpointException as failed:
        if group is None or dist.get_rank(group) == 0:
            writer.drop()
        rank, (cause, _) = min(failed.failures.items(), key=lambda each: each[0])
        reason = getattr(cause, "strerror", None) or getattr(cause, "message", None) or cause
        place = "" if group is None else f"rank {rank}: "
        notes = getattr(cause, "notes", ())
        raise CheckpointError(f"cannot save '{folder}': {place}{reason}", notes=notes) from cause
    except (RuntimeError, dist.DistError) as failed:  # a rank died or does not respond
        raise CheckpointError(f"cannot save '{folder}': another process has ended or does not respond") from failed


def load_sharded(folder: str, device: torch.device, like: torch.nn.Module | None = None) -> dict[Any, Any]:
    """Verifies a sharded checkpoint and returns its content.

    Args:
        folder: The folder.
        device: The device for the tensors. With 'meta', only their shapes are read, and only the layout is verified.
        like: A model. If its parameters are sharded, all ranks must call this function, and the tensors are sharded in
            the same way. Each rank then verifies some of the files and reads only its own shards.

    Raises:
        CheckpointDamagedError: A file that any of the ranks verifies does not match its checksum.
        CheckpointError: The folder does not exist or is not a checkpoint.
    """
    layout = read_layout(folder)
    targets = layout.empty_tensors(device)
    is_split = like is not None and is_sharded(like)
    if like is not None and is_split:
        from torch.distributed import tensor as dtensor

        model: Any = next(weight for weight in reshard(like).parameters() if is_dtensor(weight))
        mesh, placements = model.device_mesh, model.placements
        if tensor_parallel_size() > 1:  # layers differ in their meshes and placements
            mesh, placements = world_mesh(mesh.device_type, dist.group.WORLD), [dtensor.Shard(0)]
        for name, tensor in layout.tensors.items():
            if tensor.size:
                targets[name] = dtensor.empty(tensor.size, dtype=tensor.dtype, device_mesh=mesh, placements=placements)
    if device.type != "meta" and targets:
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.state_dict_loader import load

        from footplate.checkpoint.sharded_storage import FolderReader

        share = (get_rank(), get_world_size()) if is_split else (0, 1)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the load in a single process
                load(dict(targets), storage_reader=FolderReader(folder, layout, share), no_dist=not is_split)
        except CheckpointException as failed:
            cause = next(iter(failed.failures.values()))[0]
            if isinstance(cause, CheckpointError):
                raise cause from failed
            raise CheckpointError(f"cannot read checkpoint '{folder}': {cause}") from failed
    with open_checkpoint(storage.join(folder, layout.state)) as stream:
        state = read_content(stream, device=device).value
    content = join_state(state, targets)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{folder}' does not contain a dict", found=type(content).__name__)
    return dict(content)


def consolidate(source: "str | os.PathLike[str]", target: "str | os.PathLike[str]") -> int:
    """Verifies a sharded checkpoint and writes it to a single file. All its tensors must fit into memory.

    Args:
        source: The folder.
        target: The output file, for `load_checkpoint` or `torch.load(path, weights_only=True)`.

    Returns:
        The number of sharded tensors.

    Raises:
        CheckpointError: The folder is not an intact checkpoint, or the file cannot be written.
        ArgumentError: The source is not a sharded checkpoint, the name of the target does not end in .pth, .pt or
            .ckpt, or one path is inside the other.
    """
    folder, path = os.fspath(source), os.fspath(target)
    _check_names(folder, path)
    storage.check_output(path, suffixes=SUFFIXES, inputs=[folder])
    save_checkpoint(load_sharded(folder, torch.device("cpu")), path)
    return len(read_layout(folder).tensors)


def shard(source: "str | os.PathLike[str]", target: "str | os.PathLike[str]", count: int) -> int:
    """Verifies a checkpoint file and writes it as a sharded checkpoint. All its tensors must fit into memory.

    A run with any number of ranks can load the result. Weights, optimizer state and averaged weights are split along
    their first dimension.

    Args:
        source: The file.
        target: The output folder, whose name ends in `.sharded`.
        count: The number of shards.

    Returns:
        The number of tensors that were split.

    Raises:
        CheckpointError: The file is not an intact checkpoint, or the folder cannot be written or contains other files.
        ArgumentError: The source is a sharded checkpoint, the name of the target does not end in .sharded, or one path
            is inside the other.
    """
    path, folder = os.fspath(source), os.fspath(target)
    check_count("parts", count)
    _check_names(folder, path)
    storage.check_output(folder, inputs=[path])
    with open_checkpoint(path) as stream:
        content = to_serializable(read_content(stream).value)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{path}' does not contain a dict", found=type(content).__name__)
    parts = [split_state(content, cut_evenly(number, count)) for number in range(count)]
    save_shards(parts[0][0], [each for _, shards in parts for each in shards.items()], folder, files=count)
    return len(parts[0][1])


def _check_names(folder: str, path: str) -> None:
    if not is_sharded_path(folder):
        raise ArgumentError("the name of a sharded checkpoint must end in .sharded", found=folder)
    if is_sharded_path(path):
        raise ArgumentError("the name of a checkpoint file must not end in .sharded", found=path)
