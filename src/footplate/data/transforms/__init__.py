"""Transforms for images and their annotations."""

from footplate.data.transforms.cropping import Pad, RandomCrop
from footplate.data.transforms.geometric import RandomFlip, RandomResize, Resize
from footplate.data.transforms.loading import LoadAnnotations, LoadImageFromFile
from footplate.data.transforms.photometric import PhotoMetricDistortion
from footplate.data.transforms.pipeline import BaseTransform, Compose, TestTimeAug

__all__ = [
    "BaseTransform",
    "Compose",
    "LoadAnnotations",
    "LoadImageFromFile",
    "Pad",
    "PhotoMetricDistortion",
    "RandomCrop",
    "RandomFlip",
    "RandomResize",
    "Resize",
    "TestTimeAug",
]
