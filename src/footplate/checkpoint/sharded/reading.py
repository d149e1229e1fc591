"""Reads sharded checkpoints: each rank can read only its own shards, and no code is executed."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from footplate import storage
from footplate.checkpoint import inert
from footplate.checkpoint._seal import check_seal, read_seal
from footplate.checkpoint.inert.archive import read_fully
from footplate.checkpoint.sharded.layout import Layout, check_files, read_layout
from footplate.checkpoint.sharded.splitting import joined
from footplate.checkpoint.verifying import opened
from footplate.distributed import gather_objects, get_rank, get_world_size
from footplate.distributed.sharding import is_dtensor, reshard
from footplate.errors import CheckpointDamagedError, CheckpointError

_PIECE_BYTES = 16 << 20


def load_parts(folder: str, device: torch.device) -> dict[Any, Any]:
    """Verifies all files of a sharded checkpoint and returns its content with whole tensors.

    Args:
        folder: The folder.
        device: The device for the tensors; with 'meta' only their shapes are read, and only the layout is verified.

    Raises:
        CheckpointDamagedError: A file is not what was written.
        CheckpointError: There is no such folder, or it is no checkpoint.
    """
    layout = read_layout(folder)
    if device.type != "meta":
        check_files(folder, layout)
    targets = {name: torch.empty(each.size, dtype=each.dtype, device=device) for name, each in layout.tensors.items()}
    if device.type != "meta":
        fill(folder, layout, targets)
    return _content(folder, layout, targets, device)


def load_parts_like(folder: str, model: torch.nn.Module, device: torch.device) -> dict[Any, Any]:
    """Returns the content of a sharded checkpoint, with tensors sharded in the same way as the parameters of `model`.

    All ranks must call this function. Each rank verifies some of the files and reads only its own shards.

    Raises:
        CheckpointDamagedError: A file is not what was written, on any process.
        CheckpointError: There is no such folder, or it is no checkpoint.
    """
    from torch.distributed import tensor as dtensor

    like: Any = next(each for each in reshard(model).parameters() if is_dtensor(each))
    layout = read_layout(folder)
    _check_together(folder, layout)
    targets: dict[str, torch.Tensor] = {
        name: dtensor.empty(each.size, dtype=each.dtype, device_mesh=like.device_mesh, placements=like.placements)
        if each.size
        else torch.empty(each.size, dtype=each.dtype, device=device)
        for name, each in layout.tensors.items()
    }
    fill(folder, layout, targets)
    return _content(folder, layout, targets, device)


def fill(folder: str, layout: Layout, targets: Mapping[str, torch.Tensor]) -> None:
    """Reads tensors from a folder into `targets`, a limited number of bytes at a time.

    Raises:
        CheckpointDamagedError: A file is cut off.
        CheckpointError: A file cannot be read.
    """
    from footplate.checkpoint.sharded.planning import pieces_for

    held = {name: target for name, target in targets.items() if math.prod(layout.tensors[name].size)}
    for piece in pieces_for(held, layout.tensors):
        with opened(storage.join(folder, piece.chunk.file)) as stream:
            _read_piece(stream, piece)


def state_of(folder: str, layout: Layout, device: torch.device) -> Any:
    """Returns the state of a folder, in which sharded tensors are replaced by references to their names.

    Raises:
        CheckpointDamagedError: It is not what was written.
        CheckpointError: It cannot be read.
    """
    with opened(storage.join(folder, layout.state)) as stream:
        seal = read_seal(stream) if device.type == "meta" else check_seal(stream)
        return inert.read(stream, device=device, seal=seal.length).value


def joined_state(folder: str, layout: Layout, targets: Mapping[str, torch.Tensor], device: torch.device) -> Any:
    """Returns the state of a folder with the tensors inserted.

    Raises:
        CheckpointError: The state is damaged, or names a tensor that is not there.
    """
    state = state_of(folder, layout, device)
    try:
        return joined(state, targets)
    except CheckpointError as error:
        raise CheckpointError(f"cannot use checkpoint '{folder}': {error.message}") from error


def _content(folder: str, layout: Layout, targets: Mapping[str, torch.Tensor], device: torch.device) -> dict[Any, Any]:
    content = joined_state(folder, layout, targets, device)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{folder}' holds no dict", found=type(content).__name__)
    return dict(content)


def _check_together(folder: str, layout: Layout) -> None:
    found: str | None = None
    try:
        check_files(folder, layout, share=(get_rank(), get_world_size()))
    except CheckpointError as error:
        found = error.message
    for message in gather_objects(found):
        if message is not None:
            raise CheckpointDamagedError(message)


def _read_piece(stream: Any, piece: Any) -> None:
    """Reads whole rows of a shard and copies the requested part of them to the target."""
    sizes = piece.chunk.sizes or (1,)
    offsets, lengths = piece.offsets or (0,), piece.lengths or (1,)
    row = math.prod(sizes[1:]) * piece.dtype.itemsize
    target = piece.target.view(lengths) if not piece.lengths else piece.target
    step = max(1, _PIECE_BYTES // max(1, row))
    for begin in range(0, lengths[0], step):
        count = min(step, lengths[0] - begin)
        memory = torch.empty(count * row, dtype=torch.uint8)
        stream.seek(piece.chunk.start + (offsets[0] + begin) * row)
        read_fully(stream, memory.numpy().data)
        rows = memory.view(piece.dtype).view(count, *sizes[1:])
        for dimension in range(1, len(sizes)):
            rows = rows.narrow(dimension, offsets[dimension], lengths[dimension])
        target[begin : begin + count].copy_(rows)
