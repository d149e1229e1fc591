"""Writes sharded checkpoints: each rank writes its own file, and the layout is written last.

A state is split into the shards of its tensors and a remaining state, in which references replace the tensors. Files
that footplate did not write are never removed or replaced.
"""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import torch
from torch import distributed as dist

from footplate import storage
from footplate.checkpoint.serializable import rebuild
from footplate.checkpoint.shard_layout import LAYOUT, is_sharded_path
from footplate.distributed.sharding import is_dtensor, local_tensor
from footplate.errors import CheckpointError
from footplate.messages import list_names

_MARK = "footplate.sharded"
_SPLIT_SECTIONS = re.compile(r"(state_dict|optimizer|ema_state_dict)\.")
_SHARD_FILE = r"(rank_\d+-[0-9a-f]+\.bin|state-[0-9a-f]+\.pth)"
_OWN_FILE = re.compile(rf"{_SHARD_FILE}|\.({_SHARD_FILE}|{re.escape(LAYOUT)})\.[0-9a-f]{{8}}\.partial")
_LAYOUT_START = re.compile(rb'\s*\{\s*"sha256":\s*"[0-9a-f]{64}",\s*"layout":\s*\{\s*"format":\s*"footplate-sharded ')
_LAYOUT_START_BYTES = 256
_SHOWN_NAMES = 3


class Shard(NamedTuple):
    """A shard of a tensor on one rank."""

    tensor: torch.Tensor  # the values
    offsets: tuple[int, ...]  # the start of the shard in each dimension of the whole tensor
    size: tuple[int, ...]  # the shape of the whole tensor


Cut = Callable[[str, torch.Tensor], Shard | None]


def split_state(state: Any, cut: Cut = lambda name, tensor: None) -> tuple[Any, dict[str, Shard]]:
    """Replaces the sharded tensors of a state with references to their names.

    Args:
        state: Containers and tensors.
        cut: Called with the name and value of each tensor that is not a DTensor. Returns the shard that this rank
            writes, or None to keep the tensor in the state.

    Returns:
        The state with references, and a dict that maps names to shards.
    """
    shards: dict[str, Shard] = {}
    names: dict[Any, str] = {}  # by memory location, for tensors that share memory

    def replace(name: str, tensor: Any) -> Any:
        if not isinstance(tensor, torch.Tensor):
            return tensor
        local = local_tensor(tensor.detach())
        key = (local.data_ptr() or id(tensor), local.storage_offset(), tuple(tensor.shape), tensor.stride())
        if key in names:
            return {_MARK: names[key]}
        shard: Shard | None
        if is_dtensor(tensor):
            (chunk,) = tensor.__create_chunk_list__()  # type: ignore[attr-defined]
            shard = Shard(local, tuple(chunk.offsets), tuple(tensor.shape))
        else:
            shard = cut(name, tensor.detach())
        if shard is None:
            return tensor
        if not math.prod(shard.size):
            return torch.empty(shard.size, dtype=tensor.dtype)
        names[key], shards[name] = name, shard
        return {_MARK: name}

    return rebuild(state, replace), shards


def join_state(state: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Replaces the references in a state from `split_state` with tensors.

    Raises:
        CheckpointError: A tensor is missing.
    """

    def replace(_: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor) or len(value) != 1 or _MARK not in value:
            return value
        name = value[_MARK]
        if type(name) is not str or name not in tensors:
            raise CheckpointError(f"the tensor '{name}' is missing")
        return tensors[name]

    return rebuild(state, replace)


def cut_evenly(number: int, count: int) -> Cut:
    """Returns a `cut` function for `split_state`. It splits tensors along dim 0, and returns shard `number` of `count`.

    Only floating-point tensors of the weights, averaged weights and optimizer state are split.
    """

    def cut(name: str, tensor: torch.Tensor) -> Shard | None:
        if not _SPLIT_SECTIONS.match(name) or not tensor.dim() or not tensor.is_floating_point() or not tensor.numel():
            return None
        length = -(-tensor.shape[0] // count)
        begin = min(number * length, tensor.shape[0])
        return Shard(tensor[begin : begin + length], (begin, *[0] * (tensor.dim() - 1)), tuple(tensor.shape))

    return cut


def cut_replicated(addresses: Set[int], number: int, count: int) -> Cut:
    """Returns a `cut` function for `split_state` that splits only the tensors whose memory addresses are given."""
    evenly = cut_evenly(number, count)
    return lambda name, tensor: evenly(name, tensor) if tensor.untyped_storage().data_ptr() in addresses else None


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
    # Imported here because the import is slow and most runs do not need it.
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_saver import save

    from footplate.checkpoint.dcp_writer import FolderWriter, ShardPlanner

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
    from footplate.checkpoint.dcp_writer import FolderWriter, ShardPlanner

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


def has_own_layout(folder: str) -> bool:
    """Checks whether footplate wrote the layout in a folder. The layout is not verified.

    Raises:
        OSError: The layout cannot be read.
    """
    try:
        with storage.open_file(storage.join(folder, LAYOUT)) as stream:
            return _LAYOUT_START.match(stream.read(_LAYOUT_START_BYTES)) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


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
        foreign = [name for name in storage.list_dir(folder) if not _OWN_FILE.fullmatch(name)]
    except NotADirectoryError as error:
        raise CheckpointError("it is a file, not a folder", notes=["Choose another name, or move the file."]) from error
    if foreign:
        raise CheckpointError(
            f"it contains files that footplate did not write: {list_names(foreign, _SHOWN_NAMES)}",
            notes=["Choose another folder, or move the files."],
        )


def remove_sharded(folder: str) -> list[str]:
    """Removes a sharded checkpoint: the layout first, then the other files of footplate and the empty folder.

    If the path is a symbolic link, only the link is removed.

    Returns:
        The names of the files that were kept because footplate did not write them.

    Raises:
        OSError: A file or the folder cannot be removed.
    """
    if storage.is_link(folder):
        storage.remove(folder.rstrip("/"))
        return []
    if not storage.exists(folder):
        return []
    try:
        names = storage.list_dir(folder)
    except NotADirectoryError:  # a file that footplate did not write
        return [storage.base_name(folder)]
    if has_own_layout(folder):
        storage.remove(storage.join(folder, LAYOUT))
        names.remove(LAYOUT)
    elif not all(map(_OWN_FILE.fullmatch, names)):
        return names
    left = remove_own_files(folder, names)
    if not left:
        storage.remove_empty_folder(folder)
    return left


def remove_own_files(folder: str, names: Iterable[str]) -> list[str]:
    """Removes the given files, except those that footplate did not write. Returns the names of the kept files.

    Raises:
        OSError: A file cannot be removed.
    """
    left = []
    for name in names:
        path = storage.join(folder, name)
        if not _OWN_FILE.fullmatch(name) or (storage.is_local(path) and os.path.isdir(path)):
            left.append(name)
        else:
            storage.remove(path)
    return left


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
                if names and all(map(_OWN_FILE.fullmatch, names)):
                    remove_sharded(path)
                    removed.append(path)
    return removed
