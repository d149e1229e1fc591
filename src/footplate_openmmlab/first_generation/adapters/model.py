"""The adapter for first-generation models, and the data containers in their batches."""

import copy
import inspect
import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import cache, partialmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from footplate.config import Config
from footplate.data import pseudo_collate
from footplate.data.data_container import DataContainer
from footplate.data.data_element import BaseDataElement
from footplate.errors import BuildError
from footplate.models import BaseDataPreprocessor, BaseModel, BaseModule, stack_batch
from footplate.registry import FUNCTIONS, MODEL_WRAPPERS, MODELS

_logger = logging.getLogger("footplate.openmmlab")


@FUNCTIONS.register_module("legacy_collate")
def collate(samples: Sequence[Any], samples_per_gpu: int = 1) -> Any:
    """Collates samples into a batch. Stacks tensors and numbers. Data containers specify how to collate their values.

    Uses `pseudo_collate` for second-generation samples, which contain data elements. Lists of different lengths are
    truncated to the shortest one, as by mmcv, with a warning.

    Args:
        samples: The samples, which must all have the same structure.
        samples_per_gpu: Ignored, because each process has one device.

    Raises:
        RuntimeError: Tensors outside data containers differ in shape.
    """
    return _collate(samples, "")


def _collate(samples: Sequence[Any], field: str) -> Any:
    """Collates the values of a field, which is "" for whole samples."""
    first = samples[0]
    values = first.values() if isinstance(first, Mapping) else first if isinstance(first, (list, tuple)) else ()
    if any(isinstance(value, BaseDataElement) for value in values):
        return pseudo_collate(samples)
    if isinstance(first, DataContainer):
        batch: Any = [sample.data for sample in samples]
        if first.stack and not first.cpu_only:
            tensors = [torch.as_tensor(value) for value in batch]
            pads = first.pad_dims is not None
            batch = stack_batch(tensors, pad_value=first.padding_value) if pads else torch.stack(tensors)
        return DataContainer([batch], first.stack, first.padding_value, first.cpu_only)
    if isinstance(first, Mapping):
        return {key: _collate([sample[key] for sample in samples], str(key)) for key in first}
    if isinstance(first, Sequence) and not isinstance(first, (str, bytes)):
        if len({len(sample) for sample in samples}) > 1:
            _warn_of_lengths(field)
        return [_collate(column, field) for column in zip(*samples)]  # noqa: B905 - as mmcv
    return default_collate(list(samples))


@cache
def _warn_of_lengths(field: str) -> None:
    _logger.warning(
        "The lists%s of the samples in a batch have different lengths. As with mmcv, all are truncated to the shortest "
        "one. To keep them, store them in a DataContainer.",
        f" in '{field}'" if field else "",
    )


def apply_to(data: Any, expr: Callable[[Any], bool], apply_func: Callable[[Any], Any]) -> Any:
    """Returns a copy of nested data in which `apply_func` was applied to the items for which `expr` returns True."""
    if expr(data):
        return apply_func(data)
    if isinstance(data, MutableMapping):
        changed = copy.copy(data)  # keeps the type, for example ConfigDict with its attribute access
        changed.update({key: apply_to(value, expr, apply_func) for key, value in data.items()})
        return changed
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(apply_to(value, expr, apply_func) for value in data))
    if isinstance(data, list | tuple):
        return type(data)(apply_to(value, expr, apply_func) for value in data)
    return data


def unpack_containers(data: Any, device: Any = None) -> Any:
    """Returns a collated batch with its data containers replaced by their values.

    If `device` is set, moves tensors and data elements there, except in containers with `cpu_only`.
    """

    def unpack(value: Any) -> Any:
        if not isinstance(value, DataContainer):
            return value if device is None else value.to(device)
        return value.data[0] if value.cpu_only else unpack_containers(value.data[0], device)

    return apply_to(data, lambda value: isinstance(value, DataContainer | Tensor | BaseDataElement), unpack)


def scatter(inputs: Any, target_gpus: Sequence[Any] = (-1,), dim: int = 0) -> Any:
    """Unpacks the data containers in a batch and returns the batch in a one-element tuple, on the first device.

    The tuple has one element because each process has one device. -1 means the CPU. Ignores `dim`.
    """
    return (unpack_containers(inputs, None if target_gpus[0] == -1 else target_gpus[0]),)


@MODEL_WRAPPERS.register_module()
class MMDataParallel(nn.Module):
    """Wraps a model so that first-generation code can access the unwrapped model as `model.module`.

    Args:
        module: The model.
        options: Ignored, because the run determines `device_ids` and similar settings.
    """

    def __init__(self, module: nn.Module, *args: Any, **options: Any) -> None:
        super().__init__()
        self.module: Any = module

    @property
    def training(self) -> bool:
        """Whether the model is in training mode. It may be set without this wrapper."""
        return bool(self.module.training)

    @training.setter
    def training(self, mode: bool) -> None:
        """Does nothing, because `train` also sets the mode of the model."""

    def _call(self, method: str, /, *inputs: Any, **kwargs: Any) -> Any:
        """Unpacks data containers, moves the data to the model's device and calls a method of the model."""
        args, named = unpack_containers((inputs, kwargs), next(self.parameters(), torch.empty(0)).device)
        return getattr(self.module, method)(*args, **named)

    forward = partialmethod(_call, "__call__")
    train_step = partialmethod(_call, "train_step")
    val_step = partialmethod(_call, "val_step")


class _ContainerUnpacker(BaseDataPreprocessor):
    """Unpacks a batch's data containers and moves the data to the device."""

    def forward(self, data: Any, training: bool = False) -> Any:
        return unpack_containers(data, self.device)


class BatchResult(dict[str, Any]):
    """The results of a whole batch, for models that return one dict per batch instead of one result per sample."""


@MODEL_WRAPPERS.register_module()
class LegacyModel(BaseModel):
    """Wraps a first-generation model and adds the step methods called by the loops.

    The state dict is the wrapped model's state dict, without a prefix.

    Losses come from the model's `train_step(data, optimizer)` or, if it has none, from `forward(return_loss=True,
    **data)` and `_parse_losses`. Predictions come from `forward(**data)`, with `mode="test"` if `forward` has an
    argument `mode` but no `return_loss`, or else with `return_loss=False` if `forward` accepts it, and with
    `rescale=True` if `forward`, `forward_test` or `simple_test` accepts it.

    Args:
        module: The model.
        batch_processor: A function `(module, batch, train_mode)` that returns the outputs of the model's `train_step`.

    Raises:
        BuildError: The model has neither `train_step` nor `forward(return_loss=...)`.

    Attributes:
        outputs: The outputs of the latest step, such as `loss`, `log_vars` and `num_samples`.
    """

    def __init__(self, module: nn.Module, batch_processor: Callable[..., Any] | None = None) -> None:
        super().__init__(_ContainerUnpacker())
        self.module: Any = module
        self.outputs: dict[str, Any] = {}
        self._optimizer: Any = None
        self._batch_processor = batch_processor
        self._has_step = batch_processor is not None or _is_step(getattr(module, "train_step", None))
        parameters = inspect.signature(module.forward).parameters
        takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        takes_return_loss = takes_any or "return_loss" in parameters
        if not self._has_step and not takes_return_loss:
            raise BuildError(
                f"the model '{type(module).__name__}' has neither train_step(data, optimizer) nor "
                "forward(return_loss=...)",
                notes=["Add one of these methods, or derive the model from BaseModel."],
            )
        self._flags: dict[str, Any] = {"return_loss": False} if takes_return_loss else {}
        if "mode" in parameters and "return_loss" not in parameters:
            self._flags = {"mode": "test"}
        if any(_has_argument(getattr(module, name, None), "rescale") for name in _PREDICTORS):
            self._flags["rescale"] = True

    def forward(self, *args: Any, mode: str = "tensor", **kwargs: Any) -> Any:
        """Returns the losses, the predictions or, in mode "tensor", the output of the model's `forward`."""
        if mode == "loss":
            return self._losses(*args)
        flags = self._flags if mode == "predict" else {}
        return self.module(*args, **flags, **kwargs)

    def _run_forward(self, data: Any, mode: Any) -> Any:
        """Passes a training batch to `forward` as a whole, because the model's `train_step` may take any type."""
        return self(data, mode=mode) if mode == "loss" else super()._run_forward(data, mode)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Trains on one batch and returns the values to log. Passes the optimizer to the wrapped model."""
        self._optimizer = of_each_optimizer(optim_wrapper, lambda part: part.optimizer)
        with optim_wrapper.optim_context(self):
            losses = self._run_forward(self.data_preprocessor(data, True), "loss")
        loss, log_vars = self.parse_losses(losses)
        if loss is not None and not isinstance(self._optimizer, dict):  # else the model steps them itself
            optim_wrapper.update_params(loss)
        return log_vars

    def val_step(self, data: Any) -> Any:
        """Returns the predictions for a batch as a list, usually with one prediction per sample."""
        found = super().val_step(data)
        return [BatchResult(found)] if isinstance(found, Mapping) else found

    test_step = val_step

    @torch.no_grad()
    def validation_losses(self, data: Any) -> dict[str, Any]:
        """Runs the model's `val_step`, or else a training step without gradients, and returns the outputs."""
        opened_data = self.data_preprocessor(data, False)
        step = getattr(self.module, "val_step", None)
        found = step(opened_data, self._optimizer) if step and _is_step(step) else self._losses(opened_data)
        self.parse_losses(found)
        return self.outputs

    def parse_losses(self, losses: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Returns the loss and the values to log. The loss may be None for a model that steps the optimizer itself."""
        if self._has_step or "log_vars" in losses:
            loss, log_vars = losses.get("loss"), losses.get("log_vars", {})
            loss = None if loss is None else torch.as_tensor(loss)
            if loss is not None:
                loss = (loss if loss.is_floating_point() else loss.float()).mean()
            self.outputs = dict(losses)
        else:
            parse = getattr(self.module, "_parse_losses", None) or getattr(self.module, "parse_losses", None)
            loss, log_vars = (parse or super().parse_losses)(losses)
            self.outputs = {"loss": loss, "log_vars": dict(log_vars), "num_samples": 1}
        if loss is not None and "loss" not in log_vars:
            log_vars = {"loss": loss.detach(), **log_vars}
        return loss, dict(log_vars)

    def as_data_elements(self, results: Sequence[Any], samples: Sequence[Any]) -> list[Any]:
        """Converts the results for a batch of samples to data elements, for `footplate predict`."""
        from footplate_openmmlab.first_generation.adapters.results import as_data_element, original_shape

        return [as_data_element(result, original_shape(each)) for result, each in zip(results, samples, strict=True)]

    def for_export(self, cfg: Config, to: str) -> tuple[nn.Module, Config]:
        """Returns the model with its pipeline's normalization, and the config without it, for `footplate export`."""
        from footplate_openmmlab.first_generation.adapters.exported_model import (
            FirstGenerationModel,
            split_normalization,
        )

        cfg, normalization = split_normalization(cfg)
        return FirstGenerationModel(self.module, normalization, to), cfg

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the wrapped model's state dict."""
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Loads a state dict into the wrapped model."""
        return self.module.load_state_dict(*args, **kwargs)

    def init_weights(self) -> None:
        """Calls the model's `init_weights`, unless it takes arguments and the model is not a `BaseModule`.

        Models that predate `BaseModule`, as in MMSegmentation 0.12 and MMPose 0.x, call `init_weights(pretrained)` in
        their constructors. A second call without the argument would overwrite pretrained weights.
        """
        init = getattr(self.module, "init_weights", None)
        if init is not None and (isinstance(self.module, BaseModule) or not inspect.signature(init).parameters):
            init()

    def _losses(self, data: Any) -> Any:
        if self._batch_processor is not None:
            return self._batch_processor(self.module, data, train_mode=self.training)
        if self._has_step:
            return self.module.train_step(data, self._optimizer or None)
        args, kwargs = ((), data) if isinstance(data, dict) else (data, {})
        return self.module(*args, return_loss=True, **kwargs)


_PREDICTORS = ("forward", "forward_test", "simple_test")


@MODELS.register_module("LegacyModel")
def adapt_model(model: nn.Module) -> nn.Module:
    """Wraps a first-generation model in `LegacyModel`. Returns a second-generation model unchanged.

    Raises:
        BuildError: The model does not implement the methods of either generation.
    """
    if isinstance(model, BaseModel) or _has_argument(getattr(model, "train_step", None), "optim_wrapper"):
        return model
    return LegacyModel(model)


def legacy_model_in(model: Any) -> LegacyModel | None:
    """Returns the `LegacyModel` inside a model's wrappers, or None for a second-generation model."""
    while not isinstance(model, LegacyModel | None):
        model = getattr(model, "module", None)
    return model


def of_each_optimizer(optim_wrapper: Any, read: Callable[[Any], Any]) -> Any:
    """Returns `read(optim_wrapper)`. For an OptimWrapperDict, returns a dict with the result for each wrapper."""
    parts = getattr(optim_wrapper, "optim_wrappers", None)
    return read(optim_wrapper) if parts is None else {name: read(part) for name, part in parts.items()}


def _is_step(step: Any) -> bool:
    return callable(step) and not _has_argument(step, "optim_wrapper")


def _has_argument(function: Any, argument: str) -> bool:
    return callable(function) and argument in inspect.signature(function).parameters
