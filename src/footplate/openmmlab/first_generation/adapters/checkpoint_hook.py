"""Adds the metadata that first-generation code expects to checkpoints."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from footplate.checkpoint.serializable import to_serializable
from footplate.engine import Hook
from footplate.errors import ArgumentError, CheckpointError
from footplate.openmmlab.first_generation.adapters.evaluation import METAINFO_KEYS
from footplate.openmmlab.first_generation.adapters.runner_view import view_of
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner

_logger = logging.getLogger("footplate.openmmlab.first_generation")


@HOOKS.register_module()
class LegacyCheckpointHook(Hook):
    """Saves the dataset's `CLASSES` and `PALETTE` and `runner.meta`, and restores `hook_msgs` when a run resumes.

    A value that a checkpoint cannot contain is left out, and a warning is logged.

    Args:
        meta: Additional entries for the checkpoint's `meta`.

    Raises:
        ArgumentError: `meta` is not a dict.
    """

    def __init__(self, meta: Mapping[str, Any] | None = None) -> None:
        if not isinstance(meta, Mapping | None):
            raise ArgumentError("meta must be a dict", key="meta", found=meta)
        self.meta = dict(meta or {})

    def before_save_checkpoint(self, runner: "Runner", checkpoint: dict[str, Any]) -> None:
        """Adds the metadata to a checkpoint."""
        meta = checkpoint["meta"]
        for key, value in {**_labels(runner, meta), **self.meta, **view_of(runner).meta}.items():
            try:
                meta.setdefault(key, to_serializable(value))
            except CheckpointError as error:
                _logger.warning("The checkpoint is saved without meta['%s']: %s", key, error.message)

    def after_load_checkpoint(self, runner: "Runner", checkpoint: dict[str, Any]) -> None:
        """Restores the messages of hooks."""
        meta = checkpoint.get("meta")
        messages = meta.get("hook_msgs") if isinstance(meta, Mapping) else None
        if runner.resume_plan.is_resuming and isinstance(messages, Mapping):
            view_of(runner).meta.setdefault("hook_msgs", {}).update(messages)


def _labels(runner: "Runner", meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `CLASSES` and `PALETTE` of the training data, under these names."""
    dataset, metainfo = getattr(runner.train_loop.dataloader, "dataset", None), meta.get("dataset_meta", {})
    found = {old: getattr(dataset, old, metainfo.get(new)) for old, new in METAINFO_KEYS.items()}
    return {old: value for old, value in found.items() if value is not None}
