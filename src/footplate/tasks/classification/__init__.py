"""Image classification: datasets, batch augmentations, models, metrics and visualization."""

from footplate.tasks.classification.accuracy import Accuracy
from footplate.tasks.classification.class_folders import CustomDataset
from footplate.tasks.classification.classifier import ImageClassifier
from footplate.tasks.classification.confusion import ConfusionMatrix
from footplate.tasks.classification.head import GlobalAveragePooling, LinearClsHead
from footplate.tasks.classification.hook import ClsVisualizationHook
from footplate.tasks.classification.losses import LabelSmoothLoss
from footplate.tasks.classification.mixing import CutMix, Mixup, RandomBatchAugment
from footplate.tasks.classification.preprocessor import ClsDataPreprocessor
from footplate.tasks.classification.sample import ClsDataSample
from footplate.tasks.classification.single_label import SingleLabelMetric
from footplate.tasks.classification.transforms import PackInputs
from footplate.tasks.classification.visualizer import ClsVisualizer

__all__ = [
    "Accuracy",
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
    "SingleLabelMetric",
]
