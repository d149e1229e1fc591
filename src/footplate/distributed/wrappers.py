"""Models inside other models, and what is inside."""

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from footplate.distributed.collectives import is_distributed
from footplate.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module(name=["MMDistributedDataParallel", "DistributedDataParallel"])
class ModelDistributedDataParallel(DistributedDataParallel):
    """DistributedDataParallel whose inner model keeps its `train_step`, `val_step` and `test_step`.

    Args:
        module: A BaseModel.
        kwargs: As DistributedDataParallel takes them.
    """

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        """Trains on one batch; the forward pass goes through the reducer."""
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, True)
            losses = self(**data, mode="loss") if isinstance(data, dict) else self(*data, mode="loss")
        loss, log_vars = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)
        found: dict[str, torch.Tensor] = log_vars
        return found

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
    """Tells whether `model` only wraps another one, found as its `module`."""
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


def wrap_model(model: nn.Module, cfg: dict[str, Any] | None, *, find_unused_parameters: bool = False) -> nn.Module:
    """Returns the model as processes that train together need it; on one process the model itself.

    Args:
        model: On its device.
        cfg: `model_wrapper_cfg`: `dict(type='MMDistributedDataParallel', ...)`.
        find_unused_parameters: For models whose parameters do not all take part in each loss.
    """
    if not is_distributed():
        return model
    settings = {
        "type": "MMDistributedDataParallel",
        "find_unused_parameters": find_unused_parameters,
        **(cfg or {}),
    }
    device = next(model.parameters()).device
    if device.type == "cuda":
        settings.setdefault("device_ids", [device.index])
    wrapped: nn.Module = MODEL_WRAPPERS.build(settings, module=model)
    if isinstance(wrapped, ModelDistributedDataParallel):
        wrapped.settle_buckets()
    return wrapped
