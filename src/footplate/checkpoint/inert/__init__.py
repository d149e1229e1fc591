"""Reads files of `torch.save`, old and new, without importing or calling anything that a file names."""

from footplate.checkpoint.inert.machine import Inert, Name
from footplate.checkpoint.inert.reader import Content, check, read

__all__ = ["Content", "Inert", "Name", "check", "read"]
