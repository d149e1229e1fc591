"""Data elements that hold annotations and predictions for models, metrics and visualizers."""

from footplate.structures.data_element import BaseDataElement
from footplate.structures.instance_data import InstanceData
from footplate.structures.label_data import LabelData
from footplate.structures.pixel_data import PixelData

__all__ = ["BaseDataElement", "InstanceData", "LabelData", "PixelData"]
