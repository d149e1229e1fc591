"""Image classification: datasets, transforms, batch augmentations, models, metrics and visualization."""

from footplate.tasks.classification.batch_augment import CutMix, Mixup, RandomBatchAugment
from footplate.tasks.classification.classifier import (
    GlobalAveragePooling,
    ImageClassifier,
    LabelSmoothLoss,
    LinearClsHead,
)
from footplate.tasks.classification.data import ClsDataPreprocessor, ClsDataSample, CustomDataset, PackInputs
from footplate.tasks.classification.metric import Accuracy, ConfusionMatrix, SingleLabelMetric
from footplate.tasks.classification.transforms import (
    CenterCrop,
    RandomBlur,
    RandomResizedCrop,
    RandomTone,
    RandomWarp,
    ResizeEdge,
)
from footplate.tasks.classification.visualizer import ClsVisualizationHook, ClsVisualizer

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
