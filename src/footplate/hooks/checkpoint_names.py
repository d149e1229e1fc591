"""The folder and the file names of the checkpoints that CheckpointHook saves."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from footplate import storage
from footplate.checkpoint import BEST, checked_template
from footplate.errors import ArgumentError

_TEMPLATES = ("iter_{}.pth", "epoch_{}.pth")


def folder_below(out_dir: str, work_dir: str) -> str:
    """Returns the subfolder of the hook's `out_dir` for the checkpoints of a run in `work_dir`."""
    return storage.join(out_dir, os.path.basename(work_dir.rstrip(os.sep)))


def best_prefix(key: str) -> str:
    """Returns the beginning of the file names of a metric's best checkpoints."""
    return f"{BEST}{key.replace('/', '_')}_"


def checkpoint_templates(cfg: Mapping[str, Any]) -> list[str]:
    """Returns the file name templates of a run's checkpoints, from a config of either generation."""
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or cfg.get("checkpoint_config") or {}
    own = hook.get("filename_tmpl")
    with contextlib.suppress(ArgumentError):  # an invalid template, which the hook reports
        return [*_TEMPLATES, checked_template(own)] if own else [*_TEMPLATES]
    return [*_TEMPLATES]
