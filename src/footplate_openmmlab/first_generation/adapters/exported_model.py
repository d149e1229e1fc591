"""Prepares first-generation segmentors and classifiers for export."""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from footplate.config import Config
from footplate_vision.inference.exported_file import ExportError
from footplate_vision.inference.exported_model import run_for_export
from footplate_vision.inference.trained_model import EvaluationData, flattened, name_of


class FirstGenerationModel(nn.Module):
    """A first-generation segmentor or classifier, with the normalization that its test pipeline performs.

    Args:
        module: The model.
        normalization: The arguments of the pipeline's `Normalize`, or an empty dict.
        to: The export format, for the error message.

    Raises:
        ExportError: The model is neither a segmentor nor a classifier.
    """

    def __init__(self, module: nn.Module, normalization: Mapping[str, Any], to: str) -> None:
        super().__init__()
        self.module: Any = module
        self.data_preprocessor = _Normalization(normalization) if normalization else None
        predict = getattr(getattr(module, "head", None), "simple_test", None)
        self._arguments = inspect.signature(predict).parameters if predict is not None else {}
        if not hasattr(module, "encode_decode") and "post_process" not in self._arguments:
            raise ExportError(
                f"of the first-generation models, only segmentors and classifiers can be exported to {to}",
                key="model",
                found=type(module),
            )

    def predicted_tensors(self, inputs: Tensor) -> dict[str, Tensor]:
        """Returns the named outputs for a batch of normalized images."""
        if hasattr(self.module, "encode_decode"):
            outputs: dict[str, Tensor] = run_for_export(self.module, inputs)
            return outputs
        probabilities = self.module.simple_test(inputs, post_process=False)
        if "softmax" not in self._arguments:  # several labels per image
            return {"probabilities": probabilities}
        return {"probabilities": probabilities, "labels": probabilities.argmax(dim=1)}


class _Normalization(nn.Module):
    """The settings of a pipeline's `Normalize`, with the attribute names of data preprocessors."""

    _enable_normalize = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.to_rgb = settings.get("to_rgb", True)
        self.register_buffer("mean", torch.tensor(settings["mean"], dtype=torch.float32))
        self.register_buffer("std", torch.tensor(settings["std"], dtype=torch.float32))


def split_normalization(cfg: Config) -> tuple[Config, dict[str, Any]]:
    """Returns a copy of a config whose test pipeline does not change values, and the arguments of its `Normalize`.

    The transform remains in the pipeline with a mean of 0, because later transforms read its settings.
    """
    cfg = copy.deepcopy(cfg)
    steps = flattened(EvaluationData(cfg).dataset["pipeline"])
    normalize = next((step for step in steps if name_of(step) == "Normalize"), None)
    if normalize is None:
        return cfg, {}
    settings = {name: value for name, value in normalize.items() if name != "type"}
    channels = len(settings["mean"])
    normalize.update(mean=[0.0] * channels, std=[1.0] * channels, to_rgb=False)
    return cfg, settings
