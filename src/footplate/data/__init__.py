"""Datasets, samplers and data loaders; each batch is determined by seed, epoch and batch index."""

from footplate.data.annotations import load_annotations
from footplate.data.base_dataset import BaseDataset
from footplate.data.building import build_dataloader, check_dataloader
from footplate.data.collate import default_collate, pseudo_collate
from footplate.data.dataset_wrappers import ClassBalancedDataset, ConcatDataset, RepeatDataset
from footplate.data.loader import SampleLoader, batches, endless_batches
from footplate.data.sample_cache import SampleCache
from footplate.data.samplers import DefaultSampler, InfiniteSampler
from footplate.data.seeding import kept_random_state, mixed_seed, seed_generators
from footplate.data.shared_memory import RecordStore
from footplate.data.transforms import BaseTransform, LoadImageFromFile
from footplate.data.transforms.pipeline import Compose
from footplate.data.workers import (
    data_wait,
    end_workers,
    handle_deaths_of_workers,
    naming_lost_workers,
    tells_of_lost_worker,
)

__all__ = [
    "BaseDataset",
    "BaseTransform",
    "ClassBalancedDataset",
    "Compose",
    "ConcatDataset",
    "DefaultSampler",
    "InfiniteSampler",
    "SampleCache",
    "LoadImageFromFile",
    "RecordStore",
    "RepeatDataset",
    "SampleLoader",
    "batches",
    "build_dataloader",
    "check_dataloader",
    "data_wait",
    "default_collate",
    "end_workers",
    "endless_batches",
    "handle_deaths_of_workers",
    "kept_random_state",
    "load_annotations",
    "mixed_seed",
    "naming_lost_workers",
    "pseudo_collate",
    "seed_generators",
    "tells_of_lost_worker",
]
