"""Transforms of pictures and what is annotated in them."""

from footplate.data.transforms.base import BaseTransform
from footplate.data.transforms.loading import LoadImageFromFile
from footplate.data.transforms.sizing import CenterCrop, RandomResizedCrop, ResizeEdge
from footplate.data.transforms.toning import RandomBlur, RandomErasing, RandomTone
from footplate.data.transforms.warping import RandomWarp

__all__ = [
    "BaseTransform",
    "CenterCrop",
    "LoadImageFromFile",
    "RandomBlur",
    "RandomErasing",
    "RandomResizedCrop",
    "RandomTone",
    "RandomWarp",
    "ResizeEdge",
]
