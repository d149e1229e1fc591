"""Datasets, samplers and dataloaders. By default, each batch is determined by the seed, epoch and batch index."""

from footplate.data.annotations import load_annotations
from footplate.data.base_dataset import BaseDataset
from footplate.data.batch_contents import batch_size_of, count_samples, has_target, map_tensors, split_target
from footplate.data.collation import default_collate, pseudo_collate
from footplate.data.dataloader_checks import LOADER_KEYS, check_dataloader, check_same_dataset
from footplate.data.dataloader_config import build_dataloader
from footplate.data.dataset_wrappers import ClassBalancedDataset, ConcatDataset, RepeatDataset
from footplate.data.loader import SampleLoader
from footplate.data.loader_attributes import dataset_of, length_of, metainfo_of
from footplate.data.loader_functions import build_collate
from footplate.data.position import batches, endless_batches
from footplate.data.rng import capture_rng, check_rng, mix_seed, preserve_random_state, restore_rng, seed_generators
from footplate.data.samplers import DefaultSampler, InfiniteSampler, samplers_of, set_epoch
from footplate.data.shared_memory import RecordStore
from footplate.data.transforms import BaseTransform, LoadImageFromFile
from footplate.data.transforms.pipeline import Compose
from footplate.data.workers import explain_worker_death, is_worker_death, kill_workers

__all__ = [
    "batch_size_of",
    "map_tensors",
    "metainfo_of",
    "has_target",
    "split_target",
    "BaseDataset",
    "BaseTransform",
    "ClassBalancedDataset",
    "Compose",
    "ConcatDataset",
    "DefaultSampler",
    "InfiniteSampler",
    "LOADER_KEYS",
    "LoadImageFromFile",
    "RecordStore",
    "RepeatDataset",
    "SampleLoader",
    "batches",
    "build_collate",
    "build_dataloader",
    "check_dataloader",
    "check_same_dataset",
    "capture_rng",
    "check_rng",
    "count_samples",
    "dataset_of",
    "default_collate",
    "endless_batches",
    "explain_worker_death",
    "is_worker_death",
    "kill_workers",
    "length_of",
    "load_annotations",
    "mix_seed",
    "preserve_random_state",
    "pseudo_collate",
    "restore_rng",
    "samplers_of",
    "seed_generators",
    "set_epoch",
]
