"""Model wrappers for distributed training, and synchronized batch normalization."""

import logging
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from footplate.checks import check_choice, check_number
from footplate.distributed.collectives import (
    all_reduce_sum,
    get_world_size,
    is_distributed,
)
from footplate.distributed.fully_shard import FullyShard
from footplate.distributed.sharding import initialize_from_main, is_sharded
from footplate.error_context import at_key, with_defaults
from footplate.errors import ArgumentError
from footplate.messages import list_names, pluralize
from footplate.registry import MODEL_WRAPPERS, Registry

_USUAL_WRAPPER = "MMDistributedDataParallel"
_logger = logging.getLogger("footplate.distributed")
_UNUSED_PARAMETERS_MESSAGE = "Expected to have finished reduction in the prior iteration"
_INDICES = re.compile(r"did not receive grad for rank \d+:((?: \d+)+)")
_MAX_NAMES = 4
_SYNC_BN_KINDS = ("torch", "mmcv")


class ModelWrapper(nn.Module):
    """Base class for model wrappers. If only the model has an attribute, the error suggests `unwrapped_model`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module" or not hasattr(unwrap_model(self), name):
                raise
        advice = f"runner.model is a wrapper, which has no '{name}': write runner.unwrapped_model.{name}"
        raise AttributeError(advice, name=name, obj=None)  # without the object, Python does not suggest similar names


@MODEL_WRAPPERS.register_module(name=["MMDistributedDataParallel", "DistributedDataParallel"])
class ModelDistributedDataParallel(ModelWrapper, DistributedDataParallel):
    """A DistributedDataParallel wrapper that provides the model's `train_step`, `val_step` and `test_step`.

    These methods call the model directly. A `train_step` may run any number of forward and backward passes, also of
    submodules, so it cannot run inside one forward pass of DistributedDataParallel. But this forward pass also prepares
    the reducer, from the graph of its output. Therefore, each loss passes through it before the backward pass, with
    `_Bypass` in place of the model; see `_ddp_forward`. An empty tensor passes through it before `train_step`, which
    broadcasts the buffers (decision 038).

    Args:
        module: A BaseModel.
        settings: Arguments for DistributedDataParallel. To avoid a second copy of the gradients,
            `gradient_as_bucket_view` is True by default.

    Attributes:
        unreduced: The parameters that were frozen when the model was wrapped, whose gradients are not averaged.

    Raises:
        ArgumentError: `bucket_cap_mb` is not a number of at least 0.
    """

    def __init__(self, module: nn.Module, **settings: Any) -> None:
        check_number("bucket_cap_mb", settings.get("bucket_cap_mb"), least=0, optional=True)
        with warnings.catch_warnings():
            # Configs use this argument, which is deprecated in newer versions of torch.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            super().__init__(module, **{"gradient_as_bucket_view": True, **settings})
        self._reduced = [  # error messages contain indices into this list
            name
            for name, parameter in module.named_parameters()
            if parameter.requires_grad and name not in self.parameters_to_ignore
        ]
        self.unreduced = [parameter for parameter in module.parameters() if not parameter.requires_grad]
        self._has_traced_graph = False
        self.rebuild_buckets()

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        """Runs the model's `train_step`. The gradients of each loss are averaged over the ranks.

        Raises:
            ArgumentError: Some parameters did not contribute to the loss of the previous iteration.
        """
        # Here rather than once per run, because a subclass with its own `train_step` may average gradients by itself.
        for part in optim_wrapper.parts.values():
            part.data_parallel = self
        with torch.no_grad():
            self._ddp_forward(torch.empty(0))  # this broadcasts the buffers
        try:
            return self.module.train_step(data, optim_wrapper)  # type: ignore[no-any-return]
        except RuntimeError as error:
            if _UNUSED_PARAMETERS_MESSAGE not in str(error):
                raise
            indices = _INDICES.findall(str(error))
            unused = [self._reduced[int(index)] for index in " ".join(indices).split()]
            raise ArgumentError(
                "the loss of the previous iteration did not use these parameters: "
                + (list_names(unused, _MAX_NAMES) or "unknown"),
                key="find_unused_parameters",
                notes=["Set find_unused_parameters=True, or freeze them before the model is wrapped."],
            ) from error

    def prepare_backward(self, loss: Tensor, should_sync: bool) -> Tensor:
        """Prepares the reducer for the backward pass of a loss, and returns the loss.

        Args:
            loss: The loss.
            should_sync: Whether to average the gradients over the ranks.
        """
        self.require_forward_param_sync = False  # the buffers are in use until the backward pass has ended
        with nullcontext() if should_sync else self.no_sync():
            loss = self._ddp_forward(loss)
        self.require_forward_param_sync = True
        return loss

    def _ddp_forward(self, value: Tensor) -> Tensor:
        """Passes a value through the forward method of DistributedDataParallel, and returns the value."""
        model = self.module
        self.module = _Bypass(model)
        try:
            return self(value)  # type: ignore[no-any-return]
        finally:
            self.module = model

    def no_sync(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Returns a context manager that disables gradient reduction.

        With a static graph, the first use has no effect.
        """
        if self.static_graph and not self._has_traced_graph:
            self._has_traced_graph = True
            return nullcontext()
        return super().no_sync()

    def val_step(self, data: Any) -> Any:
        """Runs the model's `val_step`."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        """Runs the model's `test_step`."""
        return self.module.test_step(data)

    def rebuild_buckets(self) -> None:
        """Runs a backward pass with zero gradients, so that the reducer rebuilds its buckets now.

        The reducer rebuilds its buckets after the first backward pass. With more than two ranks, this changes the order
        of summation, and therefore the last bits of the gradients. Without this call, the first iteration after a
        resume would differ from the same iteration of an uninterrupted run.
        """
        if self.find_unused_parameters or self.static_graph:
            return  # no rebuild takes place, or the first pass must be a real one
        total: Any = sum(0 * weight.sum() for weight in self.module.parameters() if weight.requires_grad)
        self._ddp_forward(total).backward()  # type: ignore[no-untyped-call]
        self.zero_grad()


class _Bypass(nn.Module):
    """A module that has a model's parameters and buffers, and returns its input unchanged."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, value: Tensor) -> Tensor:
        return value


def is_model_wrapper(model: nn.Module, registry: Registry = MODEL_WRAPPERS) -> bool:
    """Checks whether `model` is a wrapper. A wrapper's attribute `module` is the wrapped model.

    Args:
        model: The model.
        registry: The registry of wrappers. The registries of code bases, which are its children, are searched as well.
    """
    # A wrapper's class is registered already, so no modules have to be imported to find it.
    registered = tuple(wrapper for wrapper in registry._entries.values() if isinstance(wrapper, type))
    if isinstance(model, (DistributedDataParallel, DataParallel, *registered)):
        return True
    return any(is_model_wrapper(model, child) for child in registry.children.values())


def unwrap_model(model: nn.Module) -> nn.Module:
    """Returns the model inside all wrappers, including torch.compile."""
    inner: Any = model
    while True:
        if is_model_wrapper(inner):
            inner = inner.module
        elif hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        else:
            return inner  # type: ignore[no-any-return]


def wrap_model(
    model: nn.Module, cfg: Mapping[str, Any] | None, *, find_unused_parameters: bool = False, sync_bn: str | None = None
) -> nn.Module:
    """Wraps a model for distributed training. Without a process group, returns the model without a wrapper.

    Args:
        model: The model, on its device.
        cfg: The value of `model_wrapper_cfg`, such as `dict(type='FullyShard', ...)`.
        find_unused_parameters: Whether the loss of an iteration may leave some parameters unused.
        sync_bn: "torch" to synchronize batch normalization layers; see `synchronize_batch_norm`.
    """
    model = synchronize_batch_norm(model, sync_bn)
    with at_key("model_wrapper_cfg"):
        cfg = cfg or {}
        name = cfg.get("type", _USUAL_WRAPPER)
        wrapper_type = MODEL_WRAPPERS.resolve(name, cfg)
        if wrapper_type is FullyShard:
            model = MODEL_WRAPPERS.build(cfg, module=model)  # with a single process, this only checks the arguments
        if cfg and not is_distributed():
            _logger.info("Ignoring %s, because there is only one process.", name)
        if is_sharded(model) or not is_distributed():
            return model
        defaults: dict[str, Any] = {"type": name}
        if isinstance(wrapper_type, type) and issubclass(wrapper_type, DistributedDataParallel):
            defaults["find_unused_parameters"] = find_unused_parameters
            device = next(model.parameters()).device
            if device.type == "cuda":
                defaults["device_ids"] = [device.index]
        return MODEL_WRAPPERS.build(with_defaults(cfg, **defaults), module=model)  # type: ignore[no-any-return]


def check_model_wrapper(cfg: Mapping[str, Any]) -> None:
    """Checks the name and the arguments of `model_wrapper_cfg` without building the wrapper."""
    MODEL_WRAPPERS.check({"type": _USUAL_WRAPPER, **cfg}, module=None)


def initialize_weights(model: nn.Module) -> bool:
    """Initializes a model's weights and copies them from rank 0 to all ranks. Skips sharded models.

    Returns:
        Whether the initialization froze or unfroze parameters. If so, a data-parallel wrapper must be rebuilt, because
        it averages only the gradients of parameters that were trainable when it was built.
    """
    if is_sharded(model):
        return False  # sharded models are initialized before sharding
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    inner: Any = model
    while is_model_wrapper(inner) and not hasattr(inner, "init_weights"):
        inner = inner.module
    initialize_from_main(inner)  # the adapter of a first-generation model has its own `init_weights`
    return trainable != [parameter.requires_grad for parameter in model.parameters()]


def synchronize_batch_norm(model: nn.Module, sync_bn: str | None = None) -> nn.Module:
    """Converts the batch normalization layers of a model to suit the number of ranks.

    Move the model to its device first. With a single process, converts synchronized layers to plain ones and logs a
    message. With several processes, converts all layers to synchronized ones if `sync_bn` is "torch" or "mmcv" (the two
    have the same meaning). Otherwise, plain layers stay plain. PyTorch's SyncBatchNorm does not support CPUs, so a
    different layer with the same state is used there.
    """
    if sync_bn is not None:
        check_choice("sync_bn", sync_bn, _SYNC_BN_KINDS)
    if get_world_size() == 1:
        count = _convert_sync_layers(model, PlainBatchNorm)
        if count or sync_bn:
            replaced = f"plain batch normalization replaces {pluralize(count, 'SyncBN layer')}"
            effect = replaced if count else "sync_bn has no effect"
            _logger.info("There is only one process, so %s.", effect)
        return model
    if sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if next((parameter.device.type for parameter in model.parameters()), "cpu") == "cpu":
        _convert_sync_layers(model, RankwiseBatchNorm)
    return model


class PlainBatchNorm(nn.BatchNorm2d):
    """Batch normalization for inputs of shape `(N, C, ...)` with any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalizes the input."""
        if input.dim() < 2:
            raise ArgumentError("batch normalization needs inputs of shape (N, C, ...)", found=tuple(input.shape))
        if input.dim() == 4:
            return super().forward(input)
        return super().forward(input.reshape(*input.shape[:2], -1, 1)).view(input.shape)


class RankwiseBatchNorm(PlainBatchNorm):
    """Synchronized batch normalization on any device, using all-reduce on plain tensors.

    Inputs have shape `(N, C, ...)`; N may differ between ranks. The variance is computed from deviations from the
    global mean, so that many small batches give the same result as one large batch, except for rounding. Computes in
    float32 or higher precision, and returns the input dtype. This class is not derived from PyTorch's SyncBatchNorm,
    which DistributedDataParallel rejects on CPUs.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalizes the input."""
        if not self.training:
            return super().forward(input)
        reduced_dims = [0, *range(2, input.dim())]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        count = values.new_tensor([values.numel() / values.size(1)])
        sums = all_reduce_sum(torch.cat([values.sum(reduced_dims), count]))
        mean = sums[:-1] / sums[-1]
        count = sums[-1].detach()
        centred = values - mean.view(shape)
        variance = all_reduce_sum(centred.square().sum(reduced_dims)) / count
        if self.track_running_stats:
            batch_count: Any = self.num_batches_tracked
            batch_count.add_(1)
            weight = 1 / float(batch_count) if self.momentum is None else self.momentum
            unbiased = variance.detach() * count / (count - 1).clamp(min=1)
            for average, value in ((self.running_mean, mean.detach()), (self.running_var, unbiased)):
                average.lerp_(value.to(average), weight)  # type: ignore[union-attr]
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)


def _convert_sync_layers(model: nn.Module, layer_class: type[nn.BatchNorm2d | nn.SyncBatchNorm]) -> int:
    """Changes the class of all SyncBatchNorm layers to `layer_class`. Returns the number of these layers."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.SyncBatchNorm)]
    for layer in layers:
        layer.__class__ = layer_class  # type: ignore[assignment]
    return len(layers)
