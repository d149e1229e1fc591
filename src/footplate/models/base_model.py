"""Base classes for models and test-time augmentation, and `parse_losses`, which computes the total loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from footplate.distributed import unwrap_model
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.models.base_module import BaseModule, InitCfg
from footplate.models.preprocessor import BaseDataPreprocessor
from footplate.registry import MODELS
from footplate.weighted import LoggedValues, Sum, Weighted, refuse_pair, without_nan


class BaseModel(BaseModule, ABC):
    """Base class for models that return losses, predictions or raw outputs, depending on `mode`.

    Args:
        data_preprocessor: A module, or a dict for MODELS, that moves a batch to the model's device and converts it to
            the arguments of `forward`. By default, batches are only moved.
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
        self, data_preprocessor: nn.Module | Mapping[str, Any] | None = None, init_cfg: InitCfg = None
    ) -> None:
        super().__init__(init_cfg)
        preprocessor: Any = BaseDataPreprocessor() if data_preprocessor is None else data_preprocessor
        if not isinstance(preprocessor, nn.Module):
            with at_key("data_preprocessor"):
                preprocessor = MODELS.build(preprocessor)
        self.data_preprocessor: nn.Module = preprocessor

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the network. The keyword argument `mode` determines what is returned.

        - "loss": a dict of losses; see `parse_losses`.
        - "predict": a list of predictions, one per sample.
        - "tensor" (the default): the network's raw output.

        Dict batches are passed as keyword arguments, and lists or tuples as positional arguments.
        """

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Any]:
        """Runs one training step.

        Args:
            data: A batch from the dataloader.
            optim_wrapper: The optimizer wrapper that minimizes the loss.

        Returns:
            The values to log, as detached tensors of shape ``()`` on their original device.
        """
        with optim_wrapper.optim_context(self):
            losses = self._run_forward(self.data_preprocessor(data, True), "loss")
        loss, log_vars = self.parse_losses(losses)
        optim_wrapper.update_params(loss)
        return log_vars

    def val_step(self, data: Any) -> Any:
        """Returns the predictions for one batch of a validation or test set."""
        return self._run_forward(self.data_preprocessor(data, False), "predict")

    test_step = val_step

    def val_loss(self, data: Any) -> dict[str, Tensor]:
        """Returns the values to log for one validation batch as scalar tensors, with the total loss as "loss".

        Losses that are not `Weighted` are averaged over the samples.
        """
        return self.parse_losses(self._run_forward(self.data_preprocessor(data, False), "loss"))[1]

    def parse_losses(self, losses: Mapping[str, Any]) -> tuple[Any, dict[str, Tensor]]:
        """Returns the total loss and the values to log; see `footplate.models.parse_losses`."""
        return parse_losses(losses)

    @property
    def device(self) -> torch.device:
        """The device of the first parameter or buffer, or the CPU if none exists."""
        tensor: Tensor | None = next(chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    def _run_forward(self, data: Any, mode: Literal["tensor", "loss", "predict"]) -> Any:
        if isinstance(data, dict):
            return self(**data, mode=mode)
        if isinstance(data, (list, tuple)):
            return self(*data, mode=mode)
        raise ArgumentError(
            "a data preprocessor must return a dict, list or tuple with the arguments of forward()", found=type(data)
        )


class BaseTTAModel(BaseModel):
    """Runs a model on several views of each sample, created by `TestTimeAug`, and merges the predictions.

    Subclasses override `merge_preds`.

    Args:
        module: The model, or its config dict for MODELS.
        data_preprocessor: Accepted for compatibility. Views are processed by the data preprocessor of `module`.
    """

    def __init__(
        self, module: nn.Module | Mapping[str, Any], data_preprocessor: nn.Module | Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(data_preprocessor)
        self.module: Any = MODELS.build_nested(module, "module")

    @abstractmethod
    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        """Returns one prediction for each sample.

        Args:
            data_samples_list: For each sample, a list with one prediction per view.
        """

    def val_step(self, data: Any) -> list[Any]:
        """Returns the merged predictions for one batch of a validation set; see `test_step`."""
        return self.test_step(data)

    def test_step(self, data: Any) -> list[Any]:
        """Returns the merged predictions for one batch.

        Args:
            data: The output of `TestTimeAug`, collated by `pseudo_collate`. Each key maps to a list of views, and each
                view is a list of samples or, for images, a tensor.

        Raises:
            DataError: See `split_views`.
        """
        views = [self.module.test_step(view) for view in split_views(data)]
        return self.merge_preds([list(predictions) for predictions in zip(*views, strict=True)])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the wrapped model."""
        return self.module(*args, **kwargs)


def trained_model(model: nn.Module) -> nn.Module:
    """Returns the model that is trained and saved, without any wrappers or BaseTTAModel."""
    inner = unwrap_model(model)
    return trained_model(inner.module) if isinstance(inner, BaseTTAModel) else inner


def split_views(data: Any) -> list[Any]:
    """Splits a batch with several views into one batch per view.

    Raises:
        DataError: The batch contains no views, or its entries have different numbers of views.

    Example:
        >>> split_views({"inputs": [["a1", "b1"], ["a2", "b2"]]})
        [{'inputs': ['a1', 'b1']}, {'inputs': ['a2', 'b2']}]
    """
    entries = list(data.values()) if isinstance(data, Mapping) else data
    counts = {len(entry) if isinstance(entry, Sequence) else 0 for entry in entries}
    kinds = [type(entry[0]) for entry in entries if isinstance(entry, Sequence) and entry]
    # A view of the images may be a tensor. If all entries are lists of tensors, these are samples.
    has_views = all(issubclass(kind, (Sequence, Tensor)) for kind in kinds) and not all(
        kind is Tensor for kind in kinds
    )
    if len(counts) != 1 or 0 in counts or not has_views:
        raise DataError(
            "the batch must contain several views of each sample, and every entry must have the same number of views",
            found=type(data),
            notes=["End the pipeline with TestTimeAug, and set collate_fn to pseudo_collate."],
        )
    views = list(zip(*entries, strict=True))
    if Tensor in kinds and any(len({len(part) for part in view}) > 1 for view in views):
        raise DataError("every entry of a view must have the same number of samples", found=type(data))
    return [dict(zip(data, view, strict=True)) for view in views] if isinstance(data, Mapping) else views


def parse_losses(losses: Mapping[str, Any]) -> tuple[Tensor | Weighted, dict[str, Any]]:
    """Computes the total loss and the values to log.

    Args:
        losses: A dict that maps names to values. A tensor is reduced to its mean, and a list of tensors to the sum of
            their means. Entries with "loss" in their name are summed and minimized; all others are only logged. A value
            may also be `Weighted` or, if it is only logged, a `Sum`.

    Returns:
        The total loss, of shape ``()``, and a dict of the values to log, as detached tensors of shape ``()`` on their
        original device. The dict includes the total as "loss". The total is `Weighted` if the losses are, and the dict
        is `LoggedValues` if a value has a weight or is a sum.

    Raises:
        ArgumentError: `losses` is not a dict, a value is neither a tensor nor a non-empty list of tensors, a name is
            not a string, no name contains "loss", or the losses have different weights.
    """
    if not isinstance(losses, Mapping):
        raise ArgumentError("a model in mode 'loss' must return a dict of losses", found=type(losses))
    total: Tensor | None = None
    others: dict[str, Any] = {}
    weights = []  # of the losses
    is_marked = False
    for name, value in losses.items():
        scalar = _scalar(name, value)
        if "loss" in name:
            total = scalar if total is None else total + scalar
            weights.append(value.weight if isinstance(value, Weighted) else None)
        if name != "loss":
            others[name] = scalar.detach()
            if isinstance(value, Weighted | Sum):
                others[name], is_marked = value._replace(value=others[name]), True
    if total is None:
        message = "none of the values returned by the model has 'loss' in its name, so there is no total loss"
        raise ArgumentError(message, found=list(losses))
    weight = weights[0]
    if any(each is not weight and each != weight for each in weights[1:]):
        raise ArgumentError(
            "the model's losses have different weights, so they cannot be added",
            found={name: value.weight if isinstance(value, Weighted) else None for name, value in losses.items()},
            notes=[
                "If one loss has no items in some batches, return the sum as 'loss', and log the parts next to it: "
                "{'loss': total, 'sup': Weighted(sup, count)}.",
                "Or give all losses the same weight, as in Weighted(value, other.weight).",
            ],
        )
    if weight is None:
        logged = {"loss": total.detach(), **others}
        return total, LoggedValues(logged) if is_marked else logged
    return Weighted(total, weight), LoggedValues({"loss": Weighted(total.detach(), weight), **others})


def _scalar(name: object, value: Tensor | Sequence[Tensor]) -> Tensor:
    if not isinstance(name, str):
        raise ArgumentError("the name of a loss must be a string", found=name)
    if isinstance(value, Weighted):
        return without_nan(_scalar(name, value.value), value.weight)
    if isinstance(value, Sum):
        return _scalar(name, value.value)
    if isinstance(value, Tensor):
        return value if value.dim() == 0 else (value if value.is_floating_point() else value.float()).mean()
    if is_list_of_losses(value):
        # sum() would launch one more kernel to add zero
        return reduce(Tensor.add, [_scalar(name, part) for part in value])
    refuse_pair(value, f"entry '{name}' in the model's losses")
    raise ArgumentError(f"the model must return a tensor or a non-empty list of tensors for '{name}'", found=value)


def is_list_of_losses(value: Any) -> bool:
    """Checks whether a value counts as the sum of its parts: a list, as in MMEngine, of floating-point tensors."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(part, Tensor) and part.is_floating_point() for part in value)
    )
