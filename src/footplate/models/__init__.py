"""The contract between the engine and a model, and the parts that models share."""

from footplate.models.base_model import BaseModel
from footplate.models.base_module import BaseModule
from footplate.models.losses import parse_losses
from footplate.models.preprocessor import BaseDataPreprocessor, ImgDataPreprocessor, stack_batch

__all__ = [
    "BaseDataPreprocessor",
    "BaseModel",
    "BaseModule",
    "ImgDataPreprocessor",
    "parse_losses",
    "stack_batch",
]
