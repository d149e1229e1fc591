"""Object detection: COCO dataset and metric, models and visualization."""

from footplate.tasks.detection.data import CocoDataset, DetDataPreprocessor, DetDataSample, PackDetInputs
from footplate.tasks.detection.detector import TransformersDetector
from footplate.tasks.detection.metric import CocoMetric
from footplate.tasks.detection.small_detector import SmallDetector
from footplate.tasks.detection.visualizer import DetLocalVisualizer, DetVisualizationHook

__all__ = [
    "CocoDataset",
    "CocoMetric",
    "DetDataPreprocessor",
    "DetDataSample",
    "DetLocalVisualizer",
    "DetVisualizationHook",
    "PackDetInputs",
    "SmallDetector",
    "TransformersDetector",
]
