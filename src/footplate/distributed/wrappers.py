"""Models inside other models, and what is inside."""

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
from footplate.registry import MODEL_WRAPPERS

_logger = logging.getLogger("footplate.distributed")
_UNREDUCED = "Expected to have finished reduction in the prior iteration"
_INDICES = re.compile(r"did not receive grad for rank \d+:((?: \d+)+)")
_SHOWN_NAMES = 4


@MODEL_WRAPPERS.register_module(name=["MMDistributedDataParallel", "DistributedDataParallel"])
class ModelDistributedDataParallel(DistributedDataParallel):
    """DistributedDataParallel whose inner model keeps its `train_step`, `val_step` and `test_step`.

    Args:
        module: A BaseModel.
        gradient_compression: "fp16", "bf16", "powerSGD" or "batched_powerSGD", or a dict with this as its `type`:
            how gradients travel. Those of PowerSGD lose what a resumed run would need to be bit-equal.
        kwargs: As DistributedDataParallel takes them; `gradient_as_bucket_view` is True by default, so that gradients
            are not held twice.
    """

    def __init__(
        self, module: nn.Module, *, gradient_compression: "str | Mapping[str, Any] | None" = None, **kwargs: Any
    ) -> None:
        with warnings.catch_warnings():
            # The word of the configs, which newer torch is about to replace.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            super().__init__(module, **{"gradient_as_bucket_view": True, **kwargs})
        self._knows_graph = False
        self.settle_buckets()
        if gradient_compression is not None:
            compress_gradients(self, gradient_compression)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        """Trains on one batch; the forward pass goes through the reducer.

        Raises:
            ArgumentError: Parameters took no part in the loss before, so that other ranks wait for their gradients.
        """
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, True)
            try:
                losses = self(**data, mode="loss") if isinstance(data, dict) else self(*data, mode="loss")
            except RuntimeError as error:
                if _UNREDUCED not in str(error):
                    raise
                raise _unused(self.module, str(error)) from error
        loss, log_vars = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)
        found: dict[str, torch.Tensor] = log_vars
        return found

    def no_sync(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Returns the context of passes whose gradients stay here; the first one of a static graph exchanges them."""
        if self.static_graph and not self._knows_graph:
            self._knows_graph = True
            return nullcontext()
        return super().no_sync()

    def val_step(self, data: Any) -> Any:
        """Predicts on one batch of a validation set."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        """Predicts on one batch of a test set."""
        return self.module.test_step(data)

    def settle_buckets(self) -> None:
        """Lets the reducer order its buckets now, by a backward pass that gives zeros.

        The reducer lays them out anew behind its first backward pass, by which sums over more than two ranks come
        out differently in their last bits. Without this the first iteration of a resumed run would be another one
        than the same iteration of a run that was not interrupted.
        """
        if self.find_unused_parameters or self.static_graph:
            return  # there is nothing laid out anew, or the first pass must be a real one
        parameters = [each for each in self.module.parameters() if each.requires_grad]
        self.module.forward = lambda: sum(0 * each.sum() for each in parameters)
        try:
            self().backward()
        finally:
            del self.module.forward
        self.zero_grad()


def is_model_wrapper(model: nn.Module) -> bool:
    """Checks whether `model` only wraps another one, found as its `module`."""
    registered = tuple(each for each in MODEL_WRAPPERS.module_dict.values() if isinstance(each, type))
    return isinstance(model, (DistributedDataParallel, DataParallel, *registered))


def unwrap_model(model: nn.Module) -> nn.Module:
    """Returns the model inside all wrappers and torch.compile."""
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
    """Returns the model as processes that train together need it; on one process the model itself.

    Args:
        model: On its device.
        cfg: `model_wrapper_cfg`: `dict(type='MMDistributedDataParallel', ...)` or `dict(type='FullyShard', ...)`.
        find_unused_parameters: For models whose parameters do not all take part in each loss.
        sync_bn: "torch" for the statistics of the batches of all processes in batch normalization.
    """
    model = synchronize_batch_norm(model, sync_bn)
    with at_key("model_wrapper_cfg"):
        kind = (cfg or {}).get("type", "MMDistributedDataParallel")
        if MODEL_WRAPPERS.resolve(kind, cfg or {}) is FullyShard:
            model = MODEL_WRAPPERS.build(cfg, module=model)  # on one process, it looks for slips alone
        if cfg and not is_distributed():
            _logger.info("one process needs no %s", kind)
        if is_sharded(model) or not is_distributed():
            return model
        settings = with_origins({"type": kind, "find_unused_parameters": find_unused_parameters, **(cfg or {})}, cfg)
        device = next(model.parameters()).device
        if device.type == "cuda":
            settings.setdefault("device_ids", [device.index])
        wrapped: nn.Module = MODEL_WRAPPERS.build(settings, module=model)
        return wrapped


def initialize_weights(model: nn.Module) -> None:
    """Initializes the weights of a model where that is left to do, with the same values on all processes."""
    if is_sharded(model):
        return  # done before it was sharded
    inner: Any = unwrap_model(model)
    if hasattr(inner, "init_weights"):
        inner.init_weights()
    if is_distributed():
        broadcast_values(inner)


def _unused(model: nn.Module, message: str) -> ArgumentError:
    """Says which parameters, of which modules, DistributedDataParallel has waited for."""
    told = _INDICES.search(message)
    trained = [name for name, each in model.named_parameters() if each.requires_grad]
    names = [trained[int(index)] for index in told.group(1).split()] if told else []
    modules = dict(model.named_modules())
    owners = {name.rpartition(".")[0] for name in names}
    kinds = [f"{owner or 'the model'} ({type(modules[owner]).__name__})" for owner in sorted(owners)]
    listed = ", ".join(names[:_SHOWN_NAMES]) + (f" and {len(names) - _SHOWN_NAMES} more" * (len(names) > _SHOWN_NAMES))
    return ArgumentError(
        f"{len(names)} parameters were not used in the loss of the previous iteration: {listed}",
        key="find_unused_parameters",
        notes=[
            f"they belong to {', '.join(kinds[:_SHOWN_NAMES])}",
            "set find_unused_parameters=True, or freeze them with FreezeHook",
        ],
    )
