"""Where scalars, pictures and the config of a run are written; one writer a file."""

from footplate.records.writers.base import BaseVisBackend
from footplate.records.writers.local import LocalVisBackend, write_config
from footplate.records.writers.tensorboard import TensorboardVisBackend

__all__ = ["BaseVisBackend", "LocalVisBackend", "TensorboardVisBackend", "write_config"]
