"""Defines the module that is exported for an image model: preprocessing, model and postprocessing."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate_vision.inference.export_formats import largest_difference, named_outputs
from footplate_vision.inference.exported_file import LIMIT
from footplate_vision.selfsup import SelfSupDataPreprocessor


class ExportedModel(nn.Module):
    """Computes named tensors from a batch of images.

    The input is a float32 tensor of shape ``(N, C, H, W)`` with values from 0 to 255, in the channel order of the
    pipeline.

    Swaps channels, normalizes and pads the images with the settings of the model's data preprocessor. The outputs of
    footplate's task models are probabilities and labels, boxes and scores, or features. For the outputs of other
    models, see `run_for_export`.

    Args:
        model: A model in evaluation mode.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        own: Any = getattr(model, "data_preprocessor", None)
        # The preprocessors of code bases have one of these attributes.
        swaps = ("_channel_conversion", "channel_conversion", "to_rgb")
        self._swaps = any(getattr(own, name, False) for name in swaps)
        self._normalizes = bool(getattr(own, "_enable_normalize", False))
        for name in ("mean", "std") if self._normalizes else ():
            values = getattr(own, name).detach().clone().view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        test_cfg = getattr(own, "test_cfg", None) or {}
        usual = test_cfg.get("size") or (0, 0), test_cfg.get("size_divisor") or getattr(own, "pad_size_divisor", 1)
        padding: Any = getattr(own, "_test_padding", usual)
        self._least_size, self._divisor = padding
        self._padding = float(getattr(own, "pad_value", getattr(own, "pad_val", 0)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs in the order of `named_outputs`."""
        return tuple(self.named_outputs(images).values())

    def named_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the outputs for a batch of images, keyed by name."""
        named = named_outputs(run_for_export(self.model, self.preprocess(images)))
        if "probabilities" in named and named["probabilities"].dim() == 4:  # removes the padding
            height, width = images.shape[-2:]
            return {name: tensor[..., :height, :width] for name, tensor in named.items()}
        return named

    def difference(self, outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
        """Returns the largest difference between the outputs of the exported file and the model.

        For labels, this is the fraction of labels that differ. A label is also accepted if the model's score for it is
        almost the highest, because rounding errors decide between such labels.
        """
        if len(expected) == 2 and outputs[1].dtype == expected[1].dtype == torch.int64:
            scores, labels = expected
            if outputs[1].shape == labels.shape == scores[:, 0].shape:
                distances = scores.amax(1) - scores.gather(1, outputs[1][:, None])[:, 0]
                outputs = [outputs[0], outputs[1].where(distances > LIMIT, labels)]
        return largest_difference(outputs, expected)

    def preprocess(self, images: Tensor) -> Tensor:
        """Swaps channels, normalizes and pads images with the settings of the model's data preprocessor."""
        inputs = images.flip(1) if self._swaps else images
        if self._normalizes:
            inputs = (inputs - self.mean) / self.std
        if self._divisor > 1 or any(self._least_size):
            height, width = inputs.shape[-2:]
            bottom = max(self._least_size[0] - height, -height % self._divisor)
            right = max(self._least_size[1] - width, -width % self._divisor)
            inputs = F.pad(inputs, (0, right, 0, bottom), value=self._padding)
        return inputs

    def restore(self, inputs: Tensor) -> Tensor:
        """Undoes the normalization and the swapped channels of `preprocess`, but not the padding."""
        images = inputs * self.std + self.mean if self._normalizes else inputs
        return images.flip(1) if self._swaps else images


def sliding_window(model: Any) -> dict[str, tuple[int, int]]:
    """Returns the `crop_size` and `stride` of the windows in which MMSegmentation predicts, or an empty dict."""
    test_cfg = getattr(model, "test_cfg", None) or {}
    if not hasattr(model, "encode_decode") or test_cfg.get("mode") != "slide":
        return {}
    return {name: tuple(test_cfg[name]) for name in ("crop_size", "stride")}


@contextmanager
def resizing_any_size() -> Iterator[None]:
    """Makes MMSegmentation's resizing traceable for any image size within the block.

    Its `resize` and `Upsample` convert sizes to integers, which would become constants in the trace.
    """
    names = ("mmseg.models.utils.wrappers", "mmseg.ops.wrappers")  # the second one is of the first generation
    wrappers: Any = next((sys.modules[name] for name in names if name in sys.modules), None)
    if wrappers is None:
        yield
        return
    defaults = (*wrappers.resize.__defaults__[:-1], False)  # `warning`, which compares the sizes
    with patch.object(wrappers.resize, "__defaults__", defaults), patch.object(wrappers.Upsample, "forward", _upsample):
        yield


def _upsample(self: Any, features: Tensor) -> Tensor:
    scale = None if self.size else self.scale_factor
    return F.interpolate(features, self.size, scale, self.mode, self.align_corners)


def run_for_export(model: Any, inputs: Tensor) -> Any:
    """Runs a model on preprocessed images.

    If the model belongs to one of footplate's tasks or to MMSegmentation, also postprocesses the outputs.
    """
    if hasattr(model, "predicted_tensors"):
        return model.predicted_tensors(inputs)
    if hasattr(model, "encode_decode"):  # an MMSegmentation segmentor, which resizes its scores
        size = tuple(inputs.shape[-2:])
        scores = model.encode_decode(inputs, [{"ori_shape": size, "img_shape": size, "pad_shape": size}])
        if scores.shape[1] == 1:
            return {"scores": scores}
        return {"probabilities": scores.softmax(dim=1), "labels": scores.argmax(dim=1)}
    if isinstance(getattr(model, "data_preprocessor", None), SelfSupDataPreprocessor):
        return model([inputs], mode="tensor")  # a list of views, as in the other modes
    return model(inputs, mode="tensor")
