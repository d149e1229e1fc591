"""Writing a folder of parts: every process its own file, the layout last."""

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
    """Commits a checkpoint in parts; every process of the group calls this with its own parts.

    Each writes what it holds to a file of its own. When all are done the first one writes the layout, by which the
    folder counts. What was committed there before stays until then, and is removed afterwards.

    Args:
        state: A plain state with names in the place of tensors; that of the first process counts.
        parts: This process' parts of these tensors, on the CPU.
        folder: Where to.
        group: The processes; None for one alone.
        error: What kept this process from holding its parts: nothing is written, and all learn of it.

    Raises:
        CheckpointError: A process failed; the message says which one, and why.
    """
    # Here, since they take their time and most runs have no use for them.
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
    except (RuntimeError, dist.DistError) as failed:  # of a process that is gone
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
    """Commits a checkpoint whose parts one process has at hand.

    Args:
        state: A plain state with names in the place of tensors.
        parts: The parts of these tensors, for each file.
        folder: Where to.
        drop: Called before each part, when memory may forget where those before it came from.

    Raises:
        CheckpointError: It failed; what was there before is untouched.
    """
    from footplate.checkpoint.sharded.folder import FolderWriter
    from footplate.checkpoint.sharded.planning import PartPlanner

    _write_alone([PartPlanner(each, drop=drop) for each in parts], FolderWriter(folder, state, tidy=False))


def _write_alone(planners: Sequence[Any], writer: Any) -> None:
    """Does what `torch.distributed.checkpoint.save` does, with all plans in this process."""
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
