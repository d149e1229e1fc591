"""Code shared by all tasks: the base class for models, and helpers for samples and configs."""

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from footplate.checks import check_choice
from footplate.data import BaseTransform
from footplate.data.data_element import BaseDataElement
from footplate.error_context import at_key, with_defaults
from footplate.errors import ArgumentError, DataError
from footplate.models import BaseDataPreprocessor, BaseModel
from footplate.models.base_module import InitCfg
from footplate.registry import MODELS

_logger = logging.getLogger("footplate.vision")
META_KEYS = (
    "sample_idx",
    "img_id",
    "img_path",
    "seg_map_path",
    "ori_shape",
    "img_shape",
    "pad_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "reduce_zero_label",
)
"""The keys that are stored as metainfo by default, if present."""


Part = Mapping[str, Any] | nn.Module


class TaskModel(BaseModel):
    """The base class for models that implement each forward mode in its own method: `outputs`, `loss` and `predict`.

    Args:
        data_preprocessor: See `BaseModel`. If it is a dict without `type`, the default type depends on the task, e.g.
            SegDataPreProcessor for segmentation.
        init_cfg: See `BaseModel`.
    """

    # The default type of data preprocessor; also suggested in the error about a missing one.
    usual_preprocessor = "ImgDataPreprocessor"

    def __init__(self, data_preprocessor: Part | None = None, init_cfg: InitCfg = None) -> None:
        if isinstance(data_preprocessor, Mapping):
            data_preprocessor = with_defaults(data_preprocessor, type=self.usual_preprocessor)
        super().__init__(data_preprocessor, init_cfg)

    def forward(
        self,
        inputs: Any,
        data_samples: Sequence[Any] | None = None,
        mode: Literal["tensor", "loss", "predict"] = "tensor",
    ) -> Any:
        """Calls `outputs` in mode "tensor", `loss` in mode "loss" and `predict` in mode "predict".

        Args:
            inputs: The preprocessed inputs of a batch.
            data_samples: The samples in the batch. Mode "loss" needs their ground truth; mode "predict" adds
                predictions.
            mode: "tensor", "loss" or "predict".

        Raises:
            ArgumentError: The mode is unknown, or no data preprocessor has stacked the images into one tensor.
        """
        # A list of tensors with four dimensions is a list of views, each of which is a batch.
        is_stacked = not isinstance(inputs, list) or getattr(inputs[0], "ndim", 0) >= 4
        if not is_stacked and type(self.data_preprocessor) is BaseDataPreprocessor:
            raise ArgumentError(
                "the images in the batch are not stacked into one tensor, because no data preprocessor stacks them",
                key="model",
                notes=[f"Set data_preprocessor=dict(type='{self.usual_preprocessor}', mean=[...], std=[...])."],
            )
        check_choice("mode", mode, ("tensor", "loss", "predict"))
        if mode == "tensor":
            return self.outputs(inputs)
        return self.loss(inputs, data_samples) if mode == "loss" else self.predict(inputs, data_samples)

    @abstractmethod
    def outputs(self, inputs: Any) -> Any:
        """Returns the raw output of the network."""

    def predicted_tensors(self, inputs: Tensor) -> dict[str, Any]:
        """Returns a dict of the outputs that an exported model computes for preprocessed images.

        By default, these are the raw outputs of the network. Tasks override this method to add their postprocessing.
        """
        return {"output": self.outputs(inputs)}

    @abstractmethod
    def loss(self, inputs: Any, data_samples: Sequence[Any] | None) -> dict[str, Any]:
        """Returns a dict of losses and other values to log."""

    @abstractmethod
    def predict(self, inputs: Any, data_samples: Sequence[Any] | None) -> list[Any]:
        """Returns one data sample per image, with its prediction."""


def pad_to(values: Tensor, size: Sequence[int], value: float) -> Tensor:
    """Pads images or masks of shape ``(..., h, w)`` to the size ``(H, W)``, at the bottom and on the right."""
    height, width = values.shape[-2:]
    return F.pad(values, (0, size[1] - width, 0, size[0] - height), value=value)


def check_truth(data_samples: Sequence[Any] | None, *fields: str) -> Sequence[Any]:
    """Raises a DataError if there are no samples, or if a sample has none of the `fields`. Returns the samples."""
    if not data_samples or not all(any(field in sample for field in fields) for sample in data_samples):
        names = " or ".join(f"'{field}'" for field in fields)
        raise DataError(f"each image needs a data sample with ground truth in {names}")
    return data_samples


def image_name(sample: Any) -> str:
    """Returns the quoted `img_path` of a data sample or dict, or "an image" if it has none, for error messages."""
    path = sample.get("img_path")
    return f"'{path}'" if path else "an image"


def build_part(name: str, part: Part) -> nn.Module:
    """Returns `part` if it is a module, or builds a module from the config `part`. Errors refer to the key `name`."""
    if isinstance(part, nn.Module):
        return part
    with at_key(name):
        return MODELS.build(part)  # type: ignore[no-any-return]


def features_of(output: Any) -> Any:
    """Returns the features in the output of a transformers model, and any other output unchanged.

    The features are the feature maps of a backbone, the last hidden state if its shape is ``(N, C, H, W)``, or else the
    pooled output of shape ``(N, C)``.

    Raises:
        ArgumentError: The model returns tokens, and no pooled output.

    Example:
        >>> maps = torch.zeros(1, 2, 3, 3)
        >>> output = {"last_hidden_state": maps, "pooler_output": maps.mean(dim=(2, 3))}
        >>> features_of(output) is features_of({"feature_maps": maps}) is maps
        True
    """
    if not isinstance(output, Mapping) or output.keys().isdisjoint({"feature_maps", "last_hidden_state"}):
        return output
    if "feature_maps" in output:
        return output["feature_maps"]
    if output["last_hidden_state"].ndim == 4:
        return output["last_hidden_state"]
    if "pooler_output" in output:
        return output["pooler_output"]
    raise ArgumentError(
        "the backbone returns tokens instead of feature maps or a pooled output",
        key="model.backbone",
        found=list(output),
        notes=["Use another model class, such as ViTModel instead of ViTMAEModel."],
    )


def data_field(name: str, kind: type) -> property:
    """Returns a property for a class of data samples.

    Setting the property checks that the value has the type `kind`, and stores it in the field `_<name>`.
    """
    return property(
        lambda sample: getattr(sample, f"_{name}"),
        lambda sample, value: sample.set_field(value, f"_{name}", dtype=kind),
        lambda sample: delattr(sample, f"_{name}"),
    )


class PackSamples(BaseTransform):
    """The base class for transforms that pack an image and its annotations into a model input and a data sample.

    Subclasses set `sample_type` and override `annotate`.

    Args:
        meta_keys: The keys to store as metainfo, if present.

    Raises:
        DataError: The results passed to `transform` contain no image.
    """

    sample_type: ClassVar[type[BaseDataElement]]

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = meta_keys

    def transform(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `inputs`, a tensor of shape ``(C, H, W)`` or a list of such tensors, and `data_samples`.

        The tensors have the dtype of the image.
        """
        if "img" not in results:
            raise DataError("the pipeline did not load an image: there is no key 'img'", found=sorted(results))
        image = results["img"]
        views = [image_to_tensor(view) for view in (image if isinstance(image, list) else [image])]
        metainfo = {"img_shape": tuple(views[0].shape[1:]), **select_keys(results, self.meta_keys)}
        sample = self.sample_type(metainfo=metainfo)
        self.annotate(sample, results)
        return {"inputs": views if isinstance(image, list) else views[0], "data_samples": sample}

    @abstractmethod
    def annotate(self, sample: Any, results: Mapping[str, Any]) -> None:
        """Adds the annotations in `results` to a sample."""


def image_to_tensor(image: Any) -> Tensor:
    """Copies an image of shape ``(H, W, C)`` or ``(H, W)`` to a tensor of shape ``(C, H, W)`` with the same dtype."""
    pixels = np.asarray(image)
    return torch.from_numpy(np.array(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), order="C"))


def select_keys(results: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Returns a dict with the entries under `keys`. Omits missing keys."""
    return {key: results[key] for key in keys if key in results}


def check_classes(
    what: str, labels: Tensor | NDArray[Any], num_classes: int, *, ignored: int | None = None, **details: Any
) -> None:
    """Raises a DataError if a label is neither `ignored` nor a class from 0 to `num_classes` (exclusive).

    Args:
        what: The name of the labels in the message, such as "ground truth".
        labels: Integers, of any shape.
        num_classes: The number of classes.
        ignored: An additional valid label.
        details: Additional arguments for DataError, such as `key`.
    """
    is_wrong = (labels < 0) | (labels >= num_classes)
    if ignored is not None:
        is_wrong &= labels != ignored
    if is_wrong.any():
        label = int(labels[is_wrong][0])
        message = f"the {what} contains class {label}, but classes must be between 0 and {num_classes - 1}"
        raise DataError(message, found=label, **details)


def to_labels(value: Any) -> Tensor:
    """Converts an integer or a list of integers to an int64 tensor of shape ``(K,)``, or raises an ArgumentError."""
    labels = torch.as_tensor(value)
    if labels.dim() > 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ArgumentError("labels must be an integer or a list of integers", found=value)
    return labels.reshape(-1).long()
