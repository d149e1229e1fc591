"""Writes sharded checkpoints: each rank writes its own file, and the layout is written last."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import distributed as dist

from footplate.checkpoint.sharded.splitting import Part
from footplate.errors import CheckpointError


def save_parts(
    state: Mapping[str, Any],
    parts: Mapping[str, Part],
    folder: str,
    group: Any = None,
    error: BaseException | None = None,
) -> None:
    """Writes a sharded checkpoint; every rank of the group must call this function with its own shards.

    Each rank writes its shards to its own file. When all ranks are done, rank 0 writes the layout, which commits the
    checkpoint. A previous checkpoint in the folder is kept until then and removed afterwards.

    Args:
        state: A plain state with references in place of tensors; only that of rank 0 is used.
        parts: The shards of this rank, on the CPU.
        folder: The output folder.
        group: The process group; None for a single process.
        error: An error that occurred while this rank prepared its shards. No checkpoint is written then, and all ranks
            raise the error.

    Raises:
        CheckpointError: A process failed; the message says which one, and why.
    """
    # Imported here because the import is slow and most runs do not need it.
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_saver import save

    from footplate.checkpoint.sharded.folder import FolderWriter
    from footplate.checkpoint.sharded.planning import PartPlanner

    planner, writer = PartPlanner(parts, error), FolderWriter(folder, state)
    if group is None:
        _write_alone([planner], writer)
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
        raise CheckpointError(
            f"cannot save '{folder}': a process that takes part is gone or does not answer"
        ) from failed


def save_all_parts(
    state: Mapping[str, Any],
    parts: Sequence[Mapping[str, Part]],
    folder: str,
    *,
    drop: Callable[[], Any] = lambda: None,
) -> None:
    """Writes a sharded checkpoint from a single process that has all shards.

    Args:
        state: A plain state with references in place of tensors.
        parts: The shards for each file.
        folder: The output folder.
        drop: Called before each shard, to drop the source pages of earlier shards from memory.

    Raises:
        CheckpointError: It failed; what was there before is untouched.
    """
    from footplate.checkpoint.sharded.folder import FolderWriter
    from footplate.checkpoint.sharded.planning import PartPlanner

    _write_alone([PartPlanner(each, drop=drop) for each in parts], FolderWriter(folder, state, tidy=False))


def _write_alone(planners: Sequence[Any], writer: Any) -> None:
    """Does the same as `torch.distributed.checkpoint.save`, with all plans in this process."""
    plans = []
    for planner in planners:
        planner.set_up_planner({}, None, True)
        plans.append(planner.create_local_plan())
    plans, metadata = planners[0].create_global_plan(plans)
    try:
        with _naming(writer.folder):
            plans = writer.prepare_global_plan(plans)
        results = [writer.write_data(plan, each).wait() for plan, each in zip(plans, planners, strict=True)]
        writer.finish(metadata, results)
    except OSError as error:
        writer.drop()
        raise CheckpointError(f"cannot save '{writer.folder}': {error.strerror or error}") from error


@contextmanager
def _naming(folder: str) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"cannot save '{folder}': {error.message}", notes=error.notes) from error
