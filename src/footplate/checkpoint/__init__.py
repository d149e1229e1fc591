"""Checkpoints: committed or not there, verified when read, and nothing in them is executed."""

from footplate.checkpoint._seal import Seal
from footplate.checkpoint.finding import candidates, find_latest, read_pointer
from footplate.checkpoint.loading import load_checkpoint, verify
from footplate.checkpoint.rng import capture_rng, restore_rng
from footplate.checkpoint.saving import remove_checkpoint, save_checkpoint, write_pointer

__all__ = [
    "Seal",
    "candidates",
    "capture_rng",
    "find_latest",
    "load_checkpoint",
    "read_pointer",
    "remove_checkpoint",
    "restore_rng",
    "save_checkpoint",
    "verify",
    "write_pointer",
]
