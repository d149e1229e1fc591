"""Where scalars, pictures and the config of a run are written; one writer a file."""

from footplate.records.writers.base import BaseVisBackend
from footplate.records.writers.local import LocalVisBackend, write_config

__all__ = ["BaseVisBackend", "LocalVisBackend", "write_config"]
