"""Object detection: COCO dataset and metric, models and visualization."""

from footplate_vision.detection.data import CocoDataset, DetDataPreprocessor, DetDataSample, PackDetInputs
from footplate_vision.detection.detector import TransformersDetector
from footplate_vision.detection.metric import CocoMetric
from footplate_vision.detection.small_detector import SmallDetector
from footplate_vision.detection.visualizer import DetLocalVisualizer, DetVisualizationHook
from footplate_vision.detection.yolo import YoloDataset

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
    "YoloDataset",
]
