"""Image classification: datasets, transforms, batch augmentations, models, metrics and visualization."""

from footplate_vision.classification.batch_augment import CutMix, Mixup, RandomBatchAugment
from footplate_vision.classification.classifier import (
    GlobalAveragePooling,
    ImageClassifier,
    LabelSmoothLoss,
    LinearClsHead,
)
from footplate_vision.classification.data import ClsDataPreprocessor, ClsDataSample, CustomDataset, PackInputs
from footplate_vision.classification.metric import Accuracy, ConfusionMatrix, SingleLabelMetric
from footplate_vision.classification.transforms import (
    CenterCrop,
    RandomBlur,
    RandomResizedCrop,
    RandomTone,
    RandomWarp,
    ResizeEdge,
)
from footplate_vision.classification.visualizer import ClsVisualizationHook, ClsVisualizer

__all__ = [
    "Accuracy",
    "CenterCrop",
    "ClsDataPreprocessor",
    "ClsDataSample",
    "ClsVisualizationHook",
    "ClsVisualizer",
    "ConfusionMatrix",
    "CustomDataset",
    "CutMix",
    "GlobalAveragePooling",
    "ImageClassifier",
    "LabelSmoothLoss",
    "LinearClsHead",
    "Mixup",
    "PackInputs",
    "RandomBatchAugment",
    "RandomBlur",
    "RandomResizedCrop",
    "RandomTone",
    "RandomWarp",
    "ResizeEdge",
    "SingleLabelMetric",
]
