"""Writers that store the scalars, images and config of a run."""

from footplate.records.writers.base import BaseVisBackend, numbers_in
from footplate.records.writers.clearml import ClearMLVisBackend
from footplate.records.writers.dvclive import DVCLiveVisBackend
from footplate.records.writers.guard import GuardedWriters
from footplate.records.writers.local import LocalVisBackend, is_written_config, write_config
from footplate.records.writers.mlflow import MLflowVisBackend
from footplate.records.writers.refused import AimVisBackend, NeptuneVisBackend, Refused
from footplate.records.writers.swanlab import SwanlabVisBackend
from footplate.records.writers.tensorboard import TensorboardVisBackend
from footplate.records.writers.trackio import TrackioVisBackend
from footplate.records.writers.wandb import WandbVisBackend

__all__ = [
    "AimVisBackend",
    "BaseVisBackend",
    "ClearMLVisBackend",
    "DVCLiveVisBackend",
    "GuardedWriters",
    "LocalVisBackend",
    "MLflowVisBackend",
    "NeptuneVisBackend",
    "Refused",
    "SwanlabVisBackend",
    "TensorboardVisBackend",
    "TrackioVisBackend",
    "WandbVisBackend",
    "numbers_in",
    "is_written_config",
    "write_config",
]
