"""Semantic segmentation: samples, preprocessing, a small model, IoU, pictures."""

from footplate.tasks.segmentation.hook import SegVisualizationHook
from footplate.tasks.segmentation.metric import IoUMetric
from footplate.tasks.segmentation.preprocessor import SegDataPreProcessor
from footplate.tasks.segmentation.sample import SegDataSample
from footplate.tasks.segmentation.segmentor import SmallSegmentor
from footplate.tasks.segmentation.transforms import PackSegInputs
from footplate.tasks.segmentation.visualizer import SegLocalVisualizer

__all__ = [
    "IoUMetric",
    "PackSegInputs",
    "SegDataPreProcessor",
    "SegDataSample",
    "SegLocalVisualizer",
    "SegVisualizationHook",
    "SmallSegmentor",
]
