"""Defines how checkpoint files are named."""

import os

SUFFIXES = (".pth", ".pt", ".ckpt")
SAFETENSORS_SUFFIX = ".safetensors"
SHARDED_SUFFIX = ".sharded"
STATE = "state.pth"  # the main file in the folder of a sharded checkpoint
BEST = "best_"  # prefix of the names of best checkpoints


def is_sharded_path(path: str) -> bool:
    """Checks whether `path` has the suffix of a sharded checkpoint."""
    return path.rstrip("/").endswith(SHARDED_SUFFIX)


def sharded_name(name: str) -> str:
    """Replaces the suffix of a checkpoint name with `.sharded`.

    Example:
        >>> sharded_name("iter_4000.pth")
        'iter_4000.sharded'
    """
    return os.path.splitext(name)[0] + SHARDED_SUFFIX


def best_prefix(key: str) -> str:
    """Returns the file name prefix for the best checkpoints of the metric `key`."""
    return f"{BEST}{key.replace('/', '_')}_"
