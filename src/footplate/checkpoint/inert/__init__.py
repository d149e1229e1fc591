"""Reading what `torch.save` wrote, of any age, without importing or calling anything that it names."""

from footplate.checkpoint.inert.machine import Inert, Name
from footplate.checkpoint.inert.reader import Content, check, read

__all__ = ["Content", "Inert", "Name", "check", "read"]
