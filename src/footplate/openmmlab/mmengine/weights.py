"""Functions from `mmengine.model` for weight initialization, batch norm and unused parameters."""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from footplate.models.initializers import (
    BaseInit,
    Caffe2XavierInit,
    ConstantInit,
    KaimingInit,
    NormalInit,
    TruncNormalInit,
    UniformInit,
    XavierInit,
)
from footplate.module_selection import BATCH_NORMS, INSTANCE_NORMS


def _initializer(kind: type[BaseInit], order: str) -> Callable[..., None]:
    """Returns a function that initializes a layer, but not its children.

    `order` lists the positional arguments that the returned function takes after the layer.
    """

    def initialize(module: nn.Module, *values: Any, **settings: Any) -> None:
        names = order.split()[: len(values)]
        kind(**dict(zip(names, values, strict=True)), **settings).initialize_layer(module)

    return initialize


constant_init = _initializer(ConstantInit, "val bias")
xavier_init = _initializer(XavierInit, "gain bias distribution")
normal_init = _initializer(NormalInit, "mean std bias")
trunc_normal_init = _initializer(TruncNormalInit, "mean std a b bias")
uniform_init = _initializer(UniformInit, "a b bias")
kaiming_init = _initializer(KaimingInit, "a mode nonlinearity bias distribution")
caffe2_xavier_init = _initializer(Caffe2XavierInit, "bias")


def update_init_info(module: nn.Module, init_info: str) -> None:
    """Does nothing, because footplate does not track which initializer changed a parameter."""


def is_norm(layer: nn.Module, exclude: type | tuple[type, ...] | None = None) -> bool:
    """Checks whether a layer is a normalization layer that is not an instance of `exclude`."""
    norms = (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm, nn.LayerNorm)
    return isinstance(layer, norms) and not isinstance(layer, exclude or ())


class _BatchNormXd(nn.BatchNorm2d):
    """Batch norm for inputs of any dimensionality, like SyncBN."""

    def _check_input_dim(self, input: Tensor) -> None:
        return None


def revert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Replaces SyncBN layers with batch norm layers that have the same state, and returns the model."""
    of_mmcv = getattr(sys.modules.get("mmcv.ops"), "SyncBatchNorm", nn.SyncBatchNorm)
    if isinstance(module, (nn.SyncBatchNorm, of_mmcv)):
        plain = _BatchNormXd(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(plain, name, getattr(module, name, None))
        plain.training = module.training
        return plain
    for name, child in module.named_children():
        setattr(module, name, revert_sync_batchnorm(child))
    return module


def convert_sync_batchnorm(module: nn.Module, implementation: str = "torch") -> Any:
    """Replaces batch norm layers with PyTorch's SyncBN layers, and returns the model. `implementation` is ignored."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]


def detect_anomalous_params(loss: Tensor, model: nn.Module) -> None:
    """Warns about parameters that the loss does not depend on."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad(loss, list(trained.values()), retain_graph=True, allow_unused=True)
    for name, gradient in zip(trained, gradients, strict=True):
        if gradient is None:
            warnings.warn(f"The loss does not depend on the parameter '{name}'.", UserWarning, stacklevel=2)


def merge_dict(*args: Mapping[str, Any]) -> dict[str, Any]:
    """Merges dicts; later values take precedence."""
    return {key: value for each in args for key, value in each.items()}
