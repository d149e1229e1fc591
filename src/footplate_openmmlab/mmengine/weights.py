"""Functions from `mmengine.model` for weight initialization and unused parameters."""

import warnings
from collections.abc import Callable
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


def detect_anomalous_params(loss: Tensor, model: nn.Module) -> None:
    """Warns about parameters that the loss does not depend on."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad(loss, list(trained.values()), retain_graph=True, allow_unused=True)
    for name, gradient in zip(trained, gradients, strict=True):
        if gradient is None:
            warnings.warn(f"The loss does not depend on the parameter '{name}'.", UserWarning, stacklevel=2)
