"""Data elements that contain annotations and predictions for models, metrics and visualizers."""

from footplate.data.structures.data_element import BaseDataElement
from footplate.data.structures.element_types import InstanceData, LabelData, PixelData

__all__ = ["BaseDataElement", "InstanceData", "LabelData", "PixelData"]
