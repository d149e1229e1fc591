"""Reads sharded checkpoints, and converts them to single files and back, without executing code.

In a run with several ranks, each rank reads only its own shards. A conversion does not hold all tensors in memory.
"""

import itertools
import math
import mmap
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import IO, Any

import torch
import torch.distributed as dist

from footplate import storage
from footplate.checkpoint.contents import SUFFIXES, open_checkpoint
from footplate.checkpoint.digest import read_digest
from footplate.checkpoint.saver import commit_checkpoint
from footplate.checkpoint.serializable import cut_evenly, join_state, split_state, to_serializable
from footplate.checkpoint.shard_layout import Chunk, Layout, is_sharded_path, read_layout, verify_files
from footplate.checkpoint.torch_file import read_content
from footplate.checkpoint.zip_archive import read_fully
from footplate.checks import check_count
from footplate.distributed import gather_objects, get_rank, get_world_size, tensor_parallel_size
from footplate.distributed.sharding import is_dtensor, is_sharded, local_tensor, reshard, world_mesh
from footplate.errors import ArgumentError, CheckpointDamagedError, CheckpointError
from footplate.messages import format_bytes

_PIECE_BYTES = 16 << 20


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
    targets: dict[str, torch.Tensor] = {}
    if like is not None and is_sharded(like):
        from torch.distributed import tensor as dtensor

        failure: str | None = None
        try:
            verify_files(folder, layout, share=(get_rank(), get_world_size()))
        except CheckpointError as error:
            failure = error.message
        for message in gather_objects(failure):  # so that all ranks raise the same error
            if message is not None:
                raise CheckpointDamagedError(message)
        model: Any = next(each for each in reshard(like).parameters() if is_dtensor(each))
        mesh, placements = model.device_mesh, model.placements
        if tensor_parallel_size() > 1:  # layers differ in their meshes and placements
            mesh, placements = world_mesh(mesh.device_type, dist.group.WORLD), [dtensor.Shard(0)]
        for name, each in layout.tensors.items():
            targets[name] = (
                dtensor.empty(each.size, dtype=each.dtype, device_mesh=mesh, placements=placements)
                if each.size
                else torch.empty(each.size, dtype=each.dtype, device=device)
            )
        read_tensors(folder, layout, targets)
    else:
        if device.type != "meta":
            verify_files(folder, layout)  # before memory of the sizes that the layout claims is allocated
        targets = {key: torch.empty(each.size, dtype=each.dtype, device=device) for key, each in layout.tensors.items()}
        if device.type != "meta":
            read_tensors(folder, layout, targets)
    content = _read_state(folder, layout, targets, device)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{folder}' does not contain a dict", found=type(content).__name__)
    return dict(content)


def read_tensors(folder: str, layout: Layout, targets: Mapping[str, torch.Tensor]) -> None:
    """Reads tensors from a folder into `targets`, a limited number of bytes at a time.

    Args:
        folder: The folder.
        layout: The layout of the folder.
        targets: Tensors to fill. For a DTensor, only the shard of this rank is read.

    Raises:
        CheckpointDamagedError: A file is truncated.
        CheckpointError: A file cannot be read.
    """
    for name, target in targets.items():
        local = local_tensor(target.detach())
        start = (0,) * target.dim()
        if is_dtensor(target):
            chunks = target.__create_chunk_list__()  # type: ignore[attr-defined]
            start = tuple(chunks[0].offsets) if chunks else start
        for chunk in layout.tensors[name].chunks:
            lows = [max(*each) for each in zip(start, chunk.offsets, strict=True)]
            ends = [
                min(mine + length, theirs + size)
                for mine, length, theirs, size in zip(start, local.shape, chunk.offsets, chunk.sizes, strict=True)
            ]
            if all(low < end for low, end in zip(lows, ends, strict=True)):
                piece = local[tuple(slice(low - at, end - at) for low, end, at in zip(lows, ends, start, strict=True))]
                offsets = [low - at for low, at in zip(lows, chunk.offsets, strict=True)]
                with open_checkpoint(storage.join(folder, chunk.file)) as stream:
                    read_piece(stream, chunk, layout.tensors[name].dtype, offsets, piece)


def read_piece(stream: IO[bytes], chunk: Chunk, dtype: torch.dtype, offsets: list[int], target: torch.Tensor) -> None:
    """Reads whole rows of a stored shard and copies the requested part of them to `target`.

    Args:
        stream: The file of the shard.
        chunk: The stored shard.
        dtype: The dtype of its elements.
        offsets: The start of the requested part in each dimension of the shard.
        target: The tensor to fill.

    Raises:
        CheckpointDamagedError: The file is truncated.
    """
    sizes = chunk.sizes or (1,)
    offsets = offsets or [0]
    target = target.view(1) if not target.dim() else target
    row_bytes = math.prod(sizes[1:]) * dtype.itemsize
    step = max(1, _PIECE_BYTES // max(1, row_bytes))
    for begin in range(0, target.shape[0], step):
        count = min(step, target.shape[0] - begin)
        memory = torch.empty(count * row_bytes, dtype=torch.uint8)
        stream.seek(chunk.start + (offsets[0] + begin) * row_bytes)
        read_fully(stream, memory.numpy().data)
        rows = memory.view(dtype).view(count, *sizes[1:])
        for dimension in range(1, len(sizes)):
            rows = rows.narrow(dimension, offsets[dimension], target.shape[dimension])
        target[begin : begin + count].copy_(rows)


def _read_state(folder: str, layout: Layout, targets: Mapping[str, torch.Tensor], device: torch.device) -> Any:
    """Reads the state file of a folder and replaces the references in it with tensors."""
    with open_checkpoint(storage.join(folder, layout.state)) as stream:
        state = read_content(stream, device=device).value
    try:
        return join_state(state, targets)
    except CheckpointError as error:
        raise CheckpointError(f"cannot use checkpoint '{folder}': {error.message}") from error


def consolidate(source: "str | os.PathLike[str]", target: "str | os.PathLike[str]") -> int:
    """Verifies a sharded checkpoint and writes it to a single file.

    The tensors are assembled in an unnamed temporary file in the folder of the target, which needs disk space for a
    second copy of the tensors. The largest tensor must fit into memory.

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
    layout = read_layout(folder)
    verify_files(folder, layout)
    parent = storage.parent(storage.absolute(path))
    local = storage.local_path(parent) if storage.is_local(parent) else None
    sizes = [each.nbytes for each in layout.tensors.values()]
    total = sum(sizes)
    if local is not None:
        storage.make_dirs(local)
        free = storage.free_space(local) or 0
        if free < 2 * total:
            raise CheckpointError(
                f"it needs {format_bytes(2 * total)}, but only {format_bytes(free)} are free in '{parent}'"
            )
    with tempfile.TemporaryFile(dir=local) as file:
        file.truncate(max(total, 1))
        memory = mmap.mmap(file.fileno(), max(total, 1))
        drop = partial(memory.madvise, mmap.MADV_DONTNEED)
        view, tensors = memoryview(memory), {}
        starts = itertools.accumulate(sizes, initial=0)
        for (name, each), begin in zip(layout.tensors.items(), starts, strict=False):
            tensors[name] = torch.frombuffer(view[begin : begin + each.nbytes], dtype=each.dtype).view(each.size)
            read_tensors(folder, layout, {name: tensors[name]})
            drop()
        state = _read_state(folder, layout, tensors, torch.device("cpu"))
        commit_checkpoint(to_serializable(state), path, drop)
    return len(layout.tensors)


def shard(source: "str | os.PathLike[str]", target: "str | os.PathLike[str]", count: int) -> int:
    """Verifies a checkpoint file and writes it as a sharded checkpoint.

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
    from footplate.checkpoint.sharded_writing import save_all_shards  # slow, and not needed for reading

    path, folder = os.fspath(source), os.fspath(target)
    check_count("parts", count)
    _check_names(folder, path)
    storage.check_output(folder, inputs=[path])
    with open_checkpoint(path) as stream:
        memory = None
        if read_digest(stream).length and storage.is_local(path):
            with open(storage.local_path(path), "rb") as file:
                memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        content = read_content(stream, mapped=memory).value
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{path}' does not contain a dict", found=type(content).__name__)
    state: Any
    state, first = split_state(content, cut_evenly(0, count))
    others = [split_state(content, cut_evenly(number, count))[1] for number in range(1, count)]
    drop = (lambda: None) if memory is None else (lambda: memory.madvise(mmap.MADV_DONTNEED))
    save_all_shards(to_serializable(state), [first, *others], folder, drop=drop)
    return len(first)


def _check_names(folder: str, path: str) -> None:
    if not is_sharded_path(folder):
        raise ArgumentError("the name of a sharded checkpoint must end in .sharded", found=folder)
    if is_sharded_path(path):
        raise ArgumentError("the name of a checkpoint file must not end in .sharded", found=path)
