"""Base classes and shared building blocks for models."""

from footplate.models.averaged_models import (
    BaseAveragedModel,
    ExponentialMovingAverage,
    MomentumAnnealingEMA,
    StochasticWeightAverage,
)
from footplate.models.base_model import BaseModel, BaseTTAModel, parse_losses, trained_model
from footplate.models.base_module import BaseModule, ModuleDict, ModuleList, Sequential, initialize
from footplate.models.initializers import (
    BaseInit,
    Caffe2XavierInit,
    ConstantInit,
    KaimingInit,
    NormalInit,
    PretrainedInit,
    TruncNormalInit,
    UniformInit,
    XavierInit,
    bias_from_probability,
)
from footplate.models.plain_model import PLAIN_FUNCTIONS, PlainModel, add_steps, is_plain
from footplate.models.preprocessor import BaseDataPreprocessor, ImgDataPreprocessor, stack_batch
from footplate.models.training_step import TrainStep

__all__ = [
    "BaseAveragedModel",
    "BaseDataPreprocessor",
    "BaseInit",
    "BaseModel",
    "BaseModule",
    "BaseTTAModel",
    "Caffe2XavierInit",
    "ConstantInit",
    "ExponentialMovingAverage",
    "ImgDataPreprocessor",
    "KaimingInit",
    "ModuleDict",
    "ModuleList",
    "MomentumAnnealingEMA",
    "NormalInit",
    "PLAIN_FUNCTIONS",
    "PlainModel",
    "add_steps",
    "PretrainedInit",
    "Sequential",
    "StochasticWeightAverage",
    "TrainStep",
    "TruncNormalInit",
    "UniformInit",
    "XavierInit",
    "bias_from_probability",
    "initialize",
    "is_plain",
    "parse_losses",
    "stack_batch",
    "trained_model",
]
