"""Adds first-generation metadata to checkpoints, and links `latest.pth` to the newest checkpoint."""

import contextlib
import copy
import logging
import os
import secrets
from collections.abc import Mapping
from typing import Any

import torch

from footplate import storage
from footplate.checkpoint.run_checkpoints import write_pointer
from footplate.checkpoint.serializable import to_serializable
from footplate.checkpoint_names import is_sharded_path
from footplate.checks import check_flag
from footplate.data import dataset_of
from footplate.engine import Hook, Run
from footplate.errors import CheckpointError
from footplate.hooks.averaged_weights_hooks import TRAINING_STATE, EMAHook
from footplate.registry import HOOKS
from footplate.storage.paths import local_path
from footplate_openmmlab.first_generation.adapters.evaluation import METAINFO_KEYS
from footplate_openmmlab.first_generation.adapters.runner_view import HUB_MESSAGES, existing_view_of, view_of

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
        self.meta = dict(meta or {})
        self.create_symlink = check_flag("create_symlink", create_symlink)

    def before_train(self, runner: Run) -> None:
        """Makes the saver update `latest.pth` if `create_symlink` is set."""
        if self.create_symlink:
            runner.saver.write_pointer = _write_pointer_and_link

    def before_save_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """Adds the metadata to `checkpoint["meta"]`. Does not replace existing entries."""
        meta, view = checkpoint["meta"], existing_view_of(runner)
        dataset, metainfo = dataset_of(runner.train_loop.dataloader), meta.get("dataset_meta", {})
        labels = {old: getattr(dataset, old, metainfo.get(new)) for old, new in METAINFO_KEYS.items()}
        known = {old: value for old, value in labels.items() if value is not None}
        for key, value in {**known, **self.meta, **(view.meta if view else {})}.items():
            try:
                meta.setdefault(key, to_serializable(value))
            except CheckpointError as error:
                _logger.warning("The checkpoint is saved without meta['%s']: %s", key, error.message)

    def after_load_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """If the run is resuming, restores `hook_msgs` in `runner.meta`, and the best score and averages of mmcv."""
        if not runner.activity.is_resuming:
            return
        if messages := checkpoint.get("meta", {}).get("hook_msgs"):
            view_of(runner).meta["hook_msgs"].update(messages)
            best = {name: messages[name] for name in HUB_MESSAGES if name in messages}
            runner.message_hub.update_info_dict(best)  # where CheckpointHook looks for them
        if TRAINING_STATE not in checkpoint and any(isinstance(hook, EMAHook) for hook in runner.hooks):
            _move_averages(checkpoint, by_epoch=runner.by_epoch)


def _move_averages(checkpoint: dict[str, Any], *, by_epoch: bool) -> None:
    """Converts the state of mmcv's EMAHook, which saves buffers such as `ema_conv_weight` for `conv.weight`.

    At the end of an epoch, mmcv has swapped them with the weights, so that the buffers contain the training weights.
    """
    weights = copy.copy(checkpoint["state_dict"])
    names = {f"ema_{name.replace('.', '_')}": name for name in weights}
    buffers = {names[key]: weights.pop(key) for key in names if key in weights}
    if not buffers:
        return
    others = copy.copy(weights)
    others.update(buffers)
    averages, training = (weights, others) if by_epoch else (others, weights)
    steps = torch.tensor(checkpoint["meta"]["iter"])
    checkpoint["state_dict"] = averages
    checkpoint[TRAINING_STATE] = {"steps": steps, **{f"module.{name}": value for name, value in training.items()}}


def _write_pointer_and_link(folder: "str | os.PathLike[str]", path: "str | os.PathLike[str]") -> None:
    """Writes the pointer, and links `latest.pth` to the checkpoint."""
    write_pointer(folder, path)
    link_latest(path)


def link_latest(path: "str | os.PathLike[str]") -> None:
    """Replaces the link `latest.pth` next to a checkpoint.

    Creates no link for remote or sharded checkpoints, if a regular file has this name, or if the file system does not
    support links.
    """
    file = local_path(path)
    if not storage.is_local(path) or is_sharded_path(file):
        return
    parent, name = os.path.split(file)
    link, draft = os.path.join(parent, LINK), os.path.join(parent, f".{LINK}.{secrets.token_hex(4)}.partial")
    with contextlib.suppress(OSError):  # not all file systems support links
        if os.path.islink(link) or not os.path.exists(link):
            os.symlink(name, draft)
            os.replace(draft, link)
