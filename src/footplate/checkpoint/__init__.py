"""Saves and loads checkpoints: saves are atomic, loads verify the content and never execute code from it."""

from footplate.checkpoint._seal import Seal
from footplate.checkpoint._words import readable_size
from footplate.checkpoint.averaging import average_weights
from footplate.checkpoint.background import BackgroundSaver
from footplate.checkpoint.contents import Contents, read_contents
from footplate.checkpoint.exporting import export_weights
from footplate.checkpoint.finding import candidates, find_latest, is_written_here, read_pointer
from footplate.checkpoint.inert import Inert
from footplate.checkpoint.loading import load_checkpoint
from footplate.checkpoint.rng import capture_rng, check_rng, checked_generator_state, restore_rng
from footplate.checkpoint.saving import remove_checkpoint, save_checkpoint, write_pointer
from footplate.checkpoint.sharded import is_committed, is_folder, name_in_parts
from footplate.checkpoint.sharded.converting import consolidate, shard
from footplate.checkpoint.trust import trusted_files, trusted_in, trusting
from footplate.checkpoint.verifying import verify
from footplate.checkpoint.weights import LoadReport, Mismatch, load_weights, revised, weights_of

__all__ = [
    "BackgroundSaver",
    "Contents",
    "Inert",
    "LoadReport",
    "Mismatch",
    "Seal",
    "average_weights",
    "candidates",
    "capture_rng",
    "check_rng",
    "checked_generator_state",
    "consolidate",
    "export_weights",
    "find_latest",
    "is_committed",
    "is_folder",
    "is_written_here",
    "load_checkpoint",
    "load_weights",
    "name_in_parts",
    "readable_size",
    "read_contents",
    "read_pointer",
    "remove_checkpoint",
    "restore_rng",
    "revised",
    "save_checkpoint",
    "shard",
    "trusted_files",
    "trusted_in",
    "trusting",
    "verify",
    "weights_of",
    "write_pointer",
]
