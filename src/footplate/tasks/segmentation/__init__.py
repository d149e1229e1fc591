"""Semantic segmentation: dataset, models, metric and visualization."""

from footplate.tasks.segmentation.base import BaseSegmentor
from footplate.tasks.segmentation.dataset import BaseSegDataset
from footplate.tasks.segmentation.hook import SegVisualizationHook
from footplate.tasks.segmentation.metric import IoUMetric
from footplate.tasks.segmentation.preprocessor import SegDataPreProcessor
from footplate.tasks.segmentation.sample import SegDataSample
from footplate.tasks.segmentation.segformer import SegFormer
from footplate.tasks.segmentation.segmentor import SmallSegmentor
from footplate.tasks.segmentation.test_time import SegTTAModel
from footplate.tasks.segmentation.transforms import PackSegInputs
from footplate.tasks.segmentation.visualizer import SegLocalVisualizer

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
