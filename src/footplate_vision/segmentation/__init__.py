"""Semantic segmentation: dataset, models, metric and visualization."""

from footplate_vision.segmentation.data import BaseSegDataset, PackSegInputs, SegDataPreProcessor, SegDataSample
from footplate_vision.segmentation.metric import IoUMetric
from footplate_vision.segmentation.segmentor import BaseSegmentor, SegFormer, SegTTAModel, SmallSegmentor
from footplate_vision.segmentation.visualizer import SegLocalVisualizer, SegVisualizationHook

__all__ = [
    "BaseSegDataset",
    "BaseSegmentor",
    "IoUMetric",
    "PackSegInputs",
    "SegDataPreProcessor",
    "SegDataSample",
    "SegFormer",
    "SegLocalVisualizer",
    "SegTTAModel",
    "SegVisualizationHook",
    "SmallSegmentor",
]
