"""Saves checkpoints atomically. Verifies and loads checkpoints, and executes no code from them."""

from footplate.checkpoint.contents import rename_keys, verify, weights_of
from footplate.checkpoint.digest import Digest
from footplate.checkpoint.loading import (
    STRIP_WRAPPER,
    LoadReport,
    Mismatch,
    load_checkpoint,
    load_newest,
    load_weights,
)
from footplate.checkpoint.run_checkpoints import (
    checked_template,
    find_newest,
    is_written_by_footplate,
    list_candidates,
    number_in,
    read_pointer,
    relocate,
    write_pointer,
)
from footplate.checkpoint.saver import BackgroundSaver, Saved, SaveRequest, remove_checkpoint, save_checkpoint
from footplate.checkpoint.serializable import split_state
from footplate.checkpoint.unpickler import OpaqueObject

__all__ = [
    "STRIP_WRAPPER",
    "BackgroundSaver",
    "Digest",
    "LoadReport",
    "Mismatch",
    "OpaqueObject",
    "SaveRequest",
    "Saved",
    "checked_template",
    "find_newest",
    "is_written_by_footplate",
    "list_candidates",
    "load_checkpoint",
    "load_newest",
    "load_weights",
    "number_in",
    "read_pointer",
    "relocate",
    "remove_checkpoint",
    "rename_keys",
    "save_checkpoint",
    "split_state",
    "verify",
    "weights_of",
    "write_pointer",
]
