"""Where scalars, pictures and the config of a run are written; one writer a file."""

from footplate.records.writers.base import BaseVisBackend
from footplate.records.writers.local import LocalVisBackend, write_config
from footplate.records.writers.mlflow import MLflowVisBackend
from footplate.records.writers.tensorboard import TensorboardVisBackend
from footplate.records.writers.wandb import WandbVisBackend

__all__ = [
    "BaseVisBackend",
    "LocalVisBackend",
    "MLflowVisBackend",
    "TensorboardVisBackend",
    "WandbVisBackend",
    "write_config",
]
