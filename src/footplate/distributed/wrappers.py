"""Model wrappers for distributed training, and access to the wrapped model."""

import logging
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from footplate.distributed.collectives import is_distributed
from footplate.distributed.compression import compress_gradients
from footplate.distributed.full_shard import FullyShard
from footplate.distributed.sharding import broadcast_values, is_sharded
from footplate.distributed.sync_bn import synchronize_batch_norm
from footplate.error_context import at_key, with_origins
from footplate.errors import ArgumentError
from footplate.messages import list_names
from footplate.registry import MODEL_WRAPPERS

_logger = logging.getLogger("footplate.distributed")
_UNUSED_PARAMETERS_MESSAGE = "Expected to have finished reduction in the prior iteration"
_INDICES = re.compile(r"did not receive grad for rank \d+:((?: \d+)+)")
_MAX_NAMES = 4


@MODEL_WRAPPERS.register_module(name=["MMDistributedDataParallel", "DistributedDataParallel"])
class ModelDistributedDataParallel(DistributedDataParallel):
    """DistributedDataParallel whose inner model keeps its `train_step`, `val_step` and `test_step`.

    Args:
        module: A BaseModel.
        gradient_compression: "fp16", "bf16", "powerSGD" or "batched_powerSGD", or a dict with this as `type`. The
            state of PowerSGD is not saved, so a resumed run is not bit-equal.
        kwargs: Arguments of DistributedDataParallel. `gradient_as_bucket_view` is True by default, which avoids a
            second copy of the gradients.
    """

    def __init__(
        self, module: nn.Module, *, gradient_compression: "str | Mapping[str, Any] | None" = None, **kwargs: Any
    ) -> None:
        with warnings.catch_warnings():
            # Configs use this argument, which newer versions of torch deprecate.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            super().__init__(module, **{"gradient_as_bucket_view": True, **kwargs})
        self._has_traced_graph = False
        self.rebuild_buckets()
        if gradient_compression is not None:
            compress_gradients(self, gradient_compression)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        """Trains on one batch, with the forward pass of DistributedDataParallel.

        Raises:
            ArgumentError: Some parameters were not used in the previous loss, so that their gradients are missing.
        """
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, True)
            try:
                losses = self(**data, mode="loss") if isinstance(data, dict) else self(*data, mode="loss")
            except RuntimeError as error:
                if _UNUSED_PARAMETERS_MESSAGE not in str(error):
                    raise
                raise _unused_parameters_error(self.module, str(error)) from error
        loss, log_vars = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)
        found: dict[str, torch.Tensor] = log_vars
        return found

    def no_sync(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Returns a context without gradient reduction. The first pass of a static graph is always reduced."""
        if self.static_graph and not self._has_traced_graph:
            self._has_traced_graph = True
            return nullcontext()
        return super().no_sync()

    def val_step(self, data: Any) -> Any:
        """Runs prediction on a validation batch."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        """Runs prediction on a test batch."""
        return self.module.test_step(data)

    def rebuild_buckets(self) -> None:
        """Runs a backward pass with zero gradients, so that the reducer rebuilds its buckets now.

        The reducer rebuilds them after its first backward pass. With more than two ranks, this changes the order of
        summation and therefore the last bits of the gradients. Without this call, the first iteration of a resumed run
        would differ from the same iteration of an uninterrupted run.
        """
        if self.find_unused_parameters or self.static_graph:
            return  # buckets are not rebuilt, or the first pass must be a real one
        parameters = [each for each in self.module.parameters() if each.requires_grad]
        self.module.forward = lambda: sum(0 * each.sum() for each in parameters)
        try:
            self().backward()
        finally:
            del self.module.forward
        self.zero_grad()


def is_model_wrapper(model: nn.Module) -> bool:
    """Checks whether `model` wraps another model as its `module`."""
    registered = tuple(each for each in MODEL_WRAPPERS.module_dict.values() if isinstance(each, type))
    return isinstance(model, (DistributedDataParallel, DataParallel, *registered))


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
    model: nn.Module,
    cfg: Mapping[str, Any] | None,
    *,
    find_unused_parameters: bool = False,
    sync_bn: str | None = None,
) -> nn.Module:
    """Wraps a model for distributed training. On one process it is not wrapped.

    Args:
        model: The model, on its device.
        cfg: `model_wrapper_cfg`: `dict(type='MMDistributedDataParallel', ...)` or `dict(type='FullyShard', ...)`.
        find_unused_parameters: Whether some parameters may not be used in every loss.
        sync_bn: "torch" synchronizes the batch normalization layers.
    """
    model = synchronize_batch_norm(model, sync_bn)
    with at_key("model_wrapper_cfg"):
        kind = (cfg or {}).get("type", "MMDistributedDataParallel")
        if MODEL_WRAPPERS.resolve(kind, cfg or {}) is FullyShard:
            model = MODEL_WRAPPERS.build(cfg, module=model)  # on one process, this only checks the arguments
        if cfg and not is_distributed():
            _logger.info("%s is not used, because there is only one process", kind)
        if is_sharded(model) or not is_distributed():
            return model
        settings = with_origins({"type": kind, "find_unused_parameters": find_unused_parameters, **(cfg or {})}, cfg)
        device = next(model.parameters()).device
        if device.type == "cuda":
            settings.setdefault("device_ids", [device.index])
        wrapped: nn.Module = MODEL_WRAPPERS.build(settings, module=model)
        return wrapped


def initialize_weights(model: nn.Module) -> None:
    """Initializes the weights of a model, unless it is sharded, and copies them from rank 0 to all ranks."""
    if is_sharded(model):
        return  # initialized before sharding
    inner: Any = unwrap_model(model)
    if hasattr(inner, "init_weights"):
        inner.init_weights()
    if is_distributed():
        broadcast_values(inner)


def _unused_parameters_error(model: nn.Module, message: str) -> ArgumentError:
    """Returns an error that lists the unused parameters and their modules."""
    found = _INDICES.search(message)
    trainable = [name for name, each in model.named_parameters() if each.requires_grad]
    names = [trainable[int(index)] for index in found.group(1).split()] if found else []
    modules = dict(model.named_modules())
    owners = {name.rpartition(".")[0] for name in names}
    kinds = [f"{owner or 'the model'} ({type(modules[owner]).__name__})" for owner in sorted(owners)]
    return ArgumentError(
        f"{len(names)} parameters were not used in the loss of the previous iteration: {list_names(names, _MAX_NAMES)}",
        key="find_unused_parameters",
        notes=[
            f"they belong to {', '.join(kinds[:_MAX_NAMES])}",
            "set find_unused_parameters=True, or freeze them with FreezeHook",
        ],
    )
