"""What all tasks build on: the base class of models, and the steps of packing transforms."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from footplate.error_context import at_key, with_origins
from footplate.errors import ArgumentError, DataError
from footplate.models import BaseDataPreprocessor, BaseModel
from footplate.models.base_module import InitCfg
from footplate.registry import MODELS

Part = Mapping[str, Any] | nn.Module


class TaskModel(BaseModel):
    """Base class of models that implement each forward mode in its own method: `outputs`, `loss` and `predict`.

    Args:
        data_preprocessor: See `BaseModel`; a dict without `type` builds a `usual_preprocessor`.
        init_cfg: See `BaseModel`.
    """

    # The default type of the data preprocessor; also suggested in the error about a missing one.
    usual_preprocessor: ClassVar[str] = "ImgDataPreprocessor"

    def __init__(self, data_preprocessor: Part | None = None, init_cfg: InitCfg = None) -> None:
        if isinstance(data_preprocessor, Mapping):
            settings = {"type": self.usual_preprocessor, **data_preprocessor}
            data_preprocessor = with_origins(settings, data_preprocessor)
        super().__init__(data_preprocessor, init_cfg)

    def forward(
        self,
        inputs: Any,
        data_samples: Sequence[Any] | None = None,
        mode: Literal["tensor", "loss", "predict"] = "tensor",
    ) -> Any:
        """Runs the method of the requested mode.

        Args:
            inputs: The preprocessed inputs of a batch.
            data_samples: The samples of the batch, with the ground truth for "loss". "predict" adds the predictions.
            mode: "tensor" calls `outputs`, "loss" calls `loss`, "predict" calls `predict`.

        Raises:
            ArgumentError: The mode is unknown, or no data preprocessor has stacked the images into one tensor.
        """
        is_stacked = not isinstance(inputs, list) or not inputs or getattr(inputs[0], "ndim", 0) == 4  # a list of views
        if not is_stacked and type(self.data_preprocessor) is BaseDataPreprocessor:
            usual = f"data_preprocessor=dict(type='{self.usual_preprocessor}', mean=[...], std=[...])"
            raise ArgumentError(
                "the images of the batch are not stacked into one tensor: the model has no data preprocessor",
                key="model",
                notes=[f"Set {usual}."],
            )
        if mode == "tensor":
            return self.outputs(inputs)
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise ArgumentError("mode must be 'tensor', 'loss' or 'predict'", key="mode", found=mode)

    @abstractmethod
    def outputs(self, inputs: Any) -> Any:
        """Returns the raw output of the network."""

    @abstractmethod
    def loss(self, inputs: Any, data_samples: Sequence[Any] | None) -> dict[str, Any]:
        """Returns the losses by name, and other values to log.

        Raises:
            DataError: The ground truth is missing.
        """

    @abstractmethod
    def predict(self, inputs: Any, data_samples: Sequence[Any] | None) -> list[Any]:
        """Returns one sample with the prediction for each image."""


def build_part(name: str, part: Part) -> nn.Module:
    """Returns a module, or builds it from a config. Errors are reported under the key `name`."""
    if isinstance(part, nn.Module):
        return part
    with at_key(name):
        built: nn.Module = MODELS.build(part)
    return built


def data_field(name: str, kind: type) -> property:
    """Returns a property of a data sample that checks the type of its value, and stores it in the field `_name`."""

    def read(sample: Any) -> Any:
        return getattr(sample, f"_{name}")

    def write(sample: Any, value: Any) -> None:
        sample.set_field(value, f"_{name}", dtype=kind)

    def remove(sample: Any) -> None:
        delattr(sample, f"_{name}")

    return property(read, write, remove)


def loaded_image(results: Mapping[str, Any], key: str = "img") -> Any:
    """Returns the image of a pipeline's results.

    Raises:
        DataError: No image was loaded.
    """
    if key not in results:
        raise DataError(f"the pipeline loaded no image: there is no key '{key}'", found=sorted(results))
    return results[key]


def image_to_tensor(image: Any) -> Tensor:
    """Copies an image ``(H, W, C)`` or ``(H, W)`` to a tensor ``(C, H, W)`` of the same dtype."""
    pixels = np.asarray(image)
    return torch.from_numpy(np.array(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), order="C"))


def select_keys(results: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Returns the entries of `keys` that are present."""
    return {key: results[key] for key in keys if key in results}
