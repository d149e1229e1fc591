"""Semantic segmentation: dataset, models, metric and visualization."""

from footplate.tasks.segmentation.data import BaseSegDataset, PackSegInputs, SegDataPreProcessor, SegDataSample
from footplate.tasks.segmentation.metric import IoUMetric
from footplate.tasks.segmentation.segmentor import BaseSegmentor, SegFormer, SegTTAModel, SmallSegmentor
from footplate.tasks.segmentation.visualizer import SegLocalVisualizer, SegVisualizationHook

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
