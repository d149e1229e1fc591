"""Data elements that hold annotations and predictions for models, metrics and visualizers."""

from footplate.data.structures.data_element import BaseDataElement
from footplate.data.structures.instance_data import InstanceData
from footplate.data.structures.label_data import LabelData
from footplate.data.structures.pixel_data import PixelData

__all__ = ["BaseDataElement", "InstanceData", "LabelData", "PixelData"]
