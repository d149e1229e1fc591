"""Transforms of images and their annotations."""

from footplate.data.transforms.cropping import CenterCrop, Pad, RandomCrop, RandomResizedCrop
from footplate.data.transforms.geometric import RandomFlip, RandomResize, RandomWarp, Resize, ResizeEdge
from footplate.data.transforms.loading import LoadAnnotations, LoadImageFromFile
from footplate.data.transforms.photometric import PhotoMetricDistortion, RandomBlur, RandomTone
from footplate.data.transforms.pipeline import BaseTransform, Compose, TestTimeAug

__all__ = [
    "BaseTransform",
    "CenterCrop",
    "Compose",
    "LoadAnnotations",
    "LoadImageFromFile",
    "Pad",
    "PhotoMetricDistortion",
    "RandomBlur",
    "RandomCrop",
    "RandomFlip",
    "RandomResize",
    "RandomResizedCrop",
    "RandomTone",
    "RandomWarp",
    "Resize",
    "ResizeEdge",
    "TestTimeAug",
]
