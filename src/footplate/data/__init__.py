"""Data sets, samplers, and loaders whose batches are a function of seed, epoch and number."""

from footplate.data.building import build_dataloader
from footplate.data.collate import default_collate, pseudo_collate
from footplate.data.loader import SampleLoader, batches, endless_batches
from footplate.data.samplers import DefaultSampler, InfiniteSampler
from footplate.data.seeding import kept_random_state, mixed_seed, seed_generators

__all__ = [
    "DefaultSampler",
    "InfiniteSampler",
    "SampleLoader",
    "batches",
    "build_dataloader",
    "default_collate",
    "endless_batches",
    "kept_random_state",
    "mixed_seed",
    "pseudo_collate",
    "seed_generators",
]
