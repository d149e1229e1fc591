"""Transforms of images and their annotations."""

from footplate.data.transforms.annotating import LoadAnnotations
from footplate.data.transforms.base import BaseTransform
from footplate.data.transforms.geometry import Pad, RandomCrop, RandomResize
from footplate.data.transforms.loading import LoadImageFromFile
from footplate.data.transforms.photometric import PhotoMetricDistortion
from footplate.data.transforms.sizing import CenterCrop, RandomResizedCrop, ResizeEdge
from footplate.data.transforms.spatial import RandomFlip, Resize
from footplate.data.transforms.test_time import TestTimeAug
from footplate.data.transforms.toning import RandomBlur, RandomErasing, RandomTone
from footplate.data.transforms.warping import RandomWarp

__all__ = [
    "BaseTransform",
    "CenterCrop",
    "LoadAnnotations",
    "LoadImageFromFile",
    "Pad",
    "PhotoMetricDistortion",
    "RandomBlur",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomResize",
    "RandomResizedCrop",
    "RandomTone",
    "RandomWarp",
    "Resize",
    "ResizeEdge",
    "TestTimeAug",
]
