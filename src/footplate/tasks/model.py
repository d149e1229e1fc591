"""What the tasks' models share: a method for each mode, and parts that are modules or dicts."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import nn

from footplate.error_context import at_key, with_origins
from footplate.errors import ArgumentError
from footplate.models import BaseDataPreprocessor, BaseModel
from footplate.models.base_module import InitCfg
from footplate.registry import MODELS

Part = Mapping[str, Any] | nn.Module


class TaskModel(BaseModel):
    """A model that answers each mode with a method of its own: `outputs`, `loss` and `predict`.

    Args:
        data_preprocessor: See `BaseModel`; a dict without `type` is one of `usual_preprocessor`.
        init_cfg: See `BaseModel`.
    """

    # Which data preprocessor makes what these models take: that of a dict without `type`, and an error names it where
    # there is none.
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
        """Returns what `mode` asks for.

        Args:
            inputs: What the preprocessor made of a batch.
            data_samples: With the truth for the loss; those of a prediction are filled and returned.
            mode: "tensor": `outputs`; "loss": `loss`; "predict": `predict`.

        Raises:
            ArgumentError: There is no such mode, or no data preprocessor has made one tensor of the pictures.
        """
        if type(self.data_preprocessor) is BaseDataPreprocessor and _is_one_by_one(inputs):
            raise self._no_preprocessor()
        if mode == "tensor":
            return self.outputs(inputs)
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise ArgumentError("a model is asked for 'tensor', 'loss' or 'predict'", key="mode", found=mode)

    def _no_preprocessor(self) -> ArgumentError:
        return ArgumentError(
            "the pictures of a batch are a list: no data preprocessor has made one tensor of them",
            key="model",
            notes=[f"the model takes data_preprocessor=dict(type='{self.usual_preprocessor}', mean=[...], std=[...])"],
        )

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


def _is_one_by_one(inputs: Any) -> bool:
    """Checks whether pictures are a list of ``(C, H, W)``, or of lists of views, as a loader gives them."""
    return isinstance(inputs, list) and bool(inputs) and getattr(inputs[0], "ndim", 0) < 4


def build_part(name: str, part: Part) -> nn.Module:
    """Returns a module, or the one that a dict describes; mistakes in it are told with `name` before their key."""
    if isinstance(part, nn.Module):
        return part
    with at_key(name):
        built: nn.Module = MODELS.build(part)
    return built
