"""Transforms of pictures and what is annotated in them."""

from footplate.data.transforms.base import BaseTransform
from footplate.data.transforms.loading import LoadImageFromFile

__all__ = ["BaseTransform", "LoadImageFromFile"]
