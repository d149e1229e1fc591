"""Saves a run: collects the states of its parts, lets hooks change them, and writes the checkpoint."""

from collections.abc import Callable, Mapping
from typing import Any

from footplate import storage
from footplate.checkpoint import BackgroundSaver
from footplate.checkpoint.serializable import gather_full_state
from footplate.checkpoint_names import BEST, is_sharded_path
from footplate.distributed import is_main_process
from footplate.distributed.sharding import is_sharded
from footplate.engine.saving.participants import Parts
from footplate.engine.saving.state import collect


def save_parts(
    parts: Parts,
    meta: Mapping[str, Any],
    path: str,
    saver: BackgroundSaver,
    call_hook: Callable[..., None],
    *,
    save_optimizer: bool = True,
    save_param_scheduler: bool = True,
    background: bool = False,
    home: str | None = None,
) -> None:
    """Saves the state of a run. If the model or the path is sharded, or in the background, all ranks must call it.

    Args:
        parts: The parts of the run.
        meta: The entries of the checkpoint's `meta` that the parts do not know.
        path: The file or folder.
        saver: Writes the file.
        call_hook: Calls the hooks for an event; here `before_save_checkpoint`.
        save_optimizer: Whether to include the optimizer state.
        save_param_scheduler: Whether to include the state of the schedules.
        background: Whether to return as soon as the state is copied, and write the file in the background.
        home: The folder whose pointer is updated, or None; see `SaveRequest`.
    """
    parts.module_attributes.warn_of_lost_tensors()
    checkpoint = collect(
        parts,
        meta,
        save_optimizer=save_optimizer,
        save_param_scheduler=save_param_scheduler,
        on_all_ranks=background or is_sharded(parts.model) or is_sharded_path(path),
    )
    call_hook("before_save_checkpoint", checkpoint=checkpoint)
    if not is_sharded_path(path):  # one rank writes the file, with the shards of all ranks
        if is_sharded(parts.model):
            checkpoint = gather_full_state(checkpoint)
        if not is_main_process():
            return
    is_complete = save_optimizer and save_param_scheduler
    becomes_last = home is not None or (is_complete and not storage.base_name(path).startswith(BEST))
    saver.save(checkpoint, path, home=home, becomes_last=becomes_last)
    if not background:
        saver.wait()
