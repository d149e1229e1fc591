"""Adds first-generation metadata to checkpoints, and links `latest.pth` to the newest checkpoint."""

import contextlib
import logging
import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from footplate import storage
from footplate.checkpoint.latest import write_pointer
from footplate.checkpoint.serializable import to_serializable
from footplate.checkpoint_names import is_sharded_path
from footplate.checks import check_flag
from footplate.data import dataset_of
from footplate.engine import Hook
from footplate.errors import ArgumentError, CheckpointError
from footplate.openmmlab.first_generation.adapters.evaluation import METAINFO_KEYS
from footplate.openmmlab.first_generation.adapters.runner_view import existing_view_of, view_of
from footplate.registry import HOOKS
from footplate.storage.paths import local_path

if TYPE_CHECKING:
    from footplate.engine import Runner

LINK = "latest.pth"
_logger = logging.getLogger("footplate.openmmlab.first_generation")


@HOOKS.register_module()
class LegacyCheckpointHook(Hook):
    """Saves `runner.meta` and the dataset's `CLASSES` and `PALETTE`, and restores `hook_msgs` when a run resumes.

    Values that cannot be stored in a checkpoint are omitted with a warning.

    Args:
        meta: Additional entries for the checkpoint's `meta`.
        create_symlink: Whether to create a symbolic link `latest.pth` to the newest checkpoint, in the same folder.

    Raises:
        ArgumentError: `meta` is not a dict.
    """

    def __init__(self, meta: Mapping[str, Any] | None = None, create_symlink: bool = True) -> None:
        if not isinstance(meta, Mapping | None):
            raise ArgumentError("meta must be a dict", key="meta", found=meta)
        self.meta = dict(meta or {})
        self.create_symlink = check_flag("create_symlink", create_symlink)

    def before_train(self, runner: "Runner") -> None:
        """Makes the saver update `latest.pth` after each save, if `create_symlink` is set."""
        if self.create_symlink:
            runner.saver.write_pointer = _write_pointer_and_link

    def before_save_checkpoint(self, runner: "Runner", checkpoint: dict[str, Any]) -> None:
        """Adds the metadata to `checkpoint["meta"]`. Does not replace existing entries."""
        meta, view = checkpoint["meta"], existing_view_of(runner)
        for key, value in {**_labels(runner, meta), **self.meta, **(view.meta if view else {})}.items():
            try:
                meta.setdefault(key, to_serializable(value))
            except CheckpointError as error:
                _logger.warning("The checkpoint is saved without meta['%s']: %s", key, error.message)

    def after_load_checkpoint(self, runner: "Runner", checkpoint: dict[str, Any]) -> None:
        """Restores `hook_msgs` in `runner.meta` if the run is resuming."""
        if runner.checkpoints.is_resuming and (messages := checkpoint.get("meta", {}).get("hook_msgs")):
            view_of(runner).meta["hook_msgs"].update(messages)


def _write_pointer_and_link(folder: "str | os.PathLike[str]", path: "str | os.PathLike[str]") -> None:
    """Writes `last_checkpoint`, and replaces the link `latest.pth` next to the checkpoint.

    Creates no link for remote or sharded checkpoints, or if the file system does not support links.
    """
    write_pointer(folder, path)
    file = local_path(path)
    if not storage.is_local(path) or is_sharded_path(file):
        return
    parent, name = os.path.split(file)
    link, draft = os.path.join(parent, LINK), os.path.join(parent, f".{LINK}.{secrets.token_hex(4)}.partial")
    with contextlib.suppress(OSError):  # not all file systems support links
        if os.path.islink(link) or not os.path.exists(link):
            os.symlink(name, draft)
            os.replace(draft, link)


def _labels(runner: "Runner", meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the training dataset's classes and palette under the keys "CLASSES" and "PALETTE", if they are known."""
    dataset, metainfo = dataset_of(runner.train_loop.dataloader), meta.get("dataset_meta", {})
    found = {old: getattr(dataset, old, metainfo.get(new)) for old, new in METAINFO_KEYS.items()}
    return {old: value for old, value in found.items() if value is not None}
