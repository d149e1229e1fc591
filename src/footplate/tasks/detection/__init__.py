"""Object detection: COCO dataset and metric, models and visualization."""

from footplate.tasks.detection.coco_dataset import CocoDataset
from footplate.tasks.detection.detector import SmallDetector
from footplate.tasks.detection.hook import DetVisualizationHook
from footplate.tasks.detection.metric import CocoMetric
from footplate.tasks.detection.preprocessor import DetDataPreprocessor
from footplate.tasks.detection.sample import DetDataSample
from footplate.tasks.detection.transformers_detector import TransformersDetector
from footplate.tasks.detection.transforms import PackDetInputs
from footplate.tasks.detection.visualizer import DetLocalVisualizer

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
