"""The base class of models."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.models.base_module import BaseModule
from footplate.models.losses import parse_losses
from footplate.models.preprocessor import BaseDataPreprocessor
from footplate.registry import MODELS


class Updater(Protocol):
    """The methods of an optimizer wrapper that `train_step` calls."""

    def optim_context(self, model: nn.Module, /) -> AbstractContextManager[None]:
        """Returns the context for the forward pass."""

    def update_params(self, loss: Tensor, /) -> None:
        """Runs the backward pass, and steps the optimizer when gradient accumulation is complete."""


class BaseModel(BaseModule, ABC):
    """A network that returns its losses, predictions or raw output, depending on `mode`.

    Args:
        data_preprocessor: A module, or a dict for MODELS, that moves a batch to the device of the model and converts
            it to the arguments of `forward`. By default the batch is only moved.
        init_cfg: See `BaseModule`.

    Example:
        >>> import torch
        >>> class Model(BaseModel):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(4, 2)
        ...     def forward(self, inputs, labels=None, mode="tensor"):
        ...         scores = self.layer(inputs)
        ...         if mode == "loss":
        ...             return dict(loss=torch.nn.functional.cross_entropy(scores, labels))
        ...         return scores.argmax(1) if mode == "predict" else scores
        >>> Model().val_step((torch.zeros(3, 4), torch.zeros(3))).shape
        torch.Size([3])
    """

    def __init__(
        self,
        data_preprocessor: nn.Module | Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.data_preprocessor = _build_preprocessor(data_preprocessor)

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the network; the keyword argument `mode` selects the result.

        - "loss": a dict of losses, see `parse_losses`.
        - "predict": a list of predictions, one per sample.
        - "tensor" (the default): the raw output of the network.

        A batch that is a dict is passed as keyword arguments, a list or tuple as positional arguments.
        """

    def train_step(self, data: Any, optim_wrapper: Updater) -> dict[str, Tensor]:
        """Runs one training step.

        Args:
            data: The batch of the data loader.
            optim_wrapper: The optimizer wrapper that minimizes the loss.

        Returns:
            The values to log, ``()`` each, detached and on their device.
        """
        with optim_wrapper.optim_context(self):
            losses = self._run_forward(self.data_preprocessor(data, True), "loss")
        loss, log_vars = self.parse_losses(losses)
        optim_wrapper.update_params(loss)
        return log_vars

    def val_step(self, data: Any) -> Any:
        """Returns the predictions for one batch of a validation set."""
        return self._run_forward(self.data_preprocessor(data, False), "predict")

    def test_step(self, data: Any) -> Any:
        """Returns the predictions for one batch of a test set."""
        return self._run_forward(self.data_preprocessor(data, False), "predict")

    def val_loss(self, data: Any) -> dict[str, Tensor]:
        """Returns the losses on one batch of a validation set, ``()`` each, with their sum as "loss"."""
        return self.parse_losses(self._run_forward(self.data_preprocessor(data, False), "loss"))[1]

    def parse_losses(self, losses: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the total loss and the values to log; see `footplate.models.parse_losses`."""
        return parse_losses(losses)

    @property
    def device(self) -> torch.device:
        """The device of the first parameter or buffer."""
        tensor: Tensor | None = next(chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    def _run_forward(self, data: Any, mode: Literal["tensor", "loss", "predict"]) -> Any:
        if isinstance(data, dict):
            return self(**data, mode=mode)
        if isinstance(data, (list, tuple)):
            return self(*data, mode=mode)
        raise ArgumentError(
            "a data preprocessor must return a dict, list or tuple with the arguments of forward()",
            found=type(data),
        )


def _build_preprocessor(cfg: nn.Module | Mapping[str, Any] | None) -> nn.Module:
    if cfg is None:
        return BaseDataPreprocessor()
    if isinstance(cfg, nn.Module):
        return cfg
    with at_key("data_preprocessor"):
        built: nn.Module = MODELS.build(cfg)
    return built
