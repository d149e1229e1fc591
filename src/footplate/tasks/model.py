"""What the tasks' models share: a method for each mode, and parts that are modules or dicts."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from footplate.errors import ArgumentError, at_key
from footplate.models import BaseModel
from footplate.registry import MODELS

Part = Mapping[str, Any] | nn.Module


class TaskModel(BaseModel):
    """A model that answers each mode with a method of its own: `outputs`, `loss` and `predict`.

    Args:
        data_preprocessor: See `BaseModel`.
        init_cfg: See `BaseModel`.
    """

    def forward(
        self,
        inputs: Any,
        data_samples: Sequence[Any] | None = None,
        mode: Literal["tensor", "loss", "predict"] = "tensor",
    ) -> Any:
        """Returns what `mode` asks for.

        Args:
            inputs: What the preprocessor made of a batch.
            data_samples: With the truth for the loss; those of a prediction are filled and returned.
            mode: "tensor": `outputs`; "loss": `loss`; "predict": `predict`.

        Raises:
            ArgumentError: There is no such mode.
        """
        if mode == "tensor":
            return self.outputs(inputs)
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise ArgumentError("a model is asked for 'tensor', 'loss' or 'predict'", key="mode", found=mode)

    @abstractmethod
    def outputs(self, inputs: Any) -> Any:
        """Returns what the network says."""

    @abstractmethod
    def loss(self, inputs: Any, data_samples: Sequence[Any] | None) -> dict[str, Any]:
        """Returns the losses by name, and what else is worth a log.

        Raises:
            DataError: There is no truth.
        """

    @abstractmethod
    def predict(self, inputs: Any, data_samples: Sequence[Any] | None) -> list[Any]:
        """Returns a sample with the prediction for each picture."""


def build_part(name: str, part: Part) -> nn.Module:
    """Returns a module, or the one that a dict describes; mistakes in it are told with `name` before their key."""
    if isinstance(part, nn.Module):
        return part
    with at_key(name):
        built: nn.Module = MODELS.build(part)
    return built
