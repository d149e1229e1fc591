"""The functions of `mmengine.model` for weight initialization, batch norm and anomalous parameters."""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from footplate.models.initializers import bias_from_probability, truncated_normal_
from footplate.module_selection import BATCH_NORMS, INSTANCE_NORMS

bias_init_with_prob = bias_from_probability


def _initialize(module: nn.Module, fill: Callable[[Tensor], object], bias: float) -> None:
    weight, offset = getattr(module, "weight", None), getattr(module, "bias", None)
    if isinstance(weight, Tensor):
        fill(weight)
    if isinstance(offset, Tensor):
        nn.init.constant_(offset, bias)


def constant_init(module: nn.Module, val: float, bias: float = 0) -> None:
    """Sets the weight of a layer to `val` and its bias to `bias`."""
    _initialize(module, lambda weight: nn.init.constant_(weight, val), bias)


def xavier_init(module: nn.Module, gain: float = 1, bias: float = 0, distribution: str = "normal") -> None:
    """Initializes a layer with the method of Glorot and Bengio (2010).

    Args:
        module: The layer.
        gain: A factor for the weights.
        bias: The value of the bias.
        distribution: "uniform" or "normal".
    """
    fill = {"uniform": nn.init.xavier_uniform_, "normal": nn.init.xavier_normal_}[distribution]
    _initialize(module, lambda weight: fill(weight, gain=gain), bias)


def normal_init(module: nn.Module, mean: float = 0, std: float = 1, bias: float = 0) -> None:
    """Initializes a layer from a normal distribution."""
    _initialize(module, lambda weight: nn.init.normal_(weight, mean, std), bias)


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Fills a tensor with values from a normal distribution that is truncated at `a` and `b`."""
    return truncated_normal_(tensor, mean, std, a, b)


def trunc_normal_init(
    module: nn.Module, mean: float = 0, std: float = 1, a: float = -2, b: float = 2, bias: float = 0
) -> None:
    """Initializes a layer from a normal distribution that is truncated at `a` and `b`."""
    _initialize(module, lambda weight: truncated_normal_(weight, mean, std, a, b), bias)


def uniform_init(module: nn.Module, a: float = 0, b: float = 1, bias: float = 0) -> None:
    """Initializes a layer from a uniform distribution."""
    _initialize(module, lambda weight: nn.init.uniform_(weight, a, b), bias)


def kaiming_init(
    module: nn.Module,
    a: float = 0,
    mode: Any = "fan_out",
    nonlinearity: Any = "relu",
    bias: float = 0,
    distribution: str = "normal",
) -> None:
    """Initializes a layer with the method of He et al. (2015).

    Args:
        module: The layer.
        a: The slope of a leaky ReLU.
        mode: "fan_in" or "fan_out".
        nonlinearity: The name of the activation.
        bias: The value of the bias.
        distribution: "uniform" or "normal".
    """
    fill: Callable[..., Tensor]
    fill = {"uniform": nn.init.kaiming_uniform_, "normal": nn.init.kaiming_normal_}[distribution]
    _initialize(module, lambda weight: fill(weight, a=a, mode=mode, nonlinearity=nonlinearity), bias)


def caffe2_xavier_init(module: nn.Module, bias: float = 0) -> None:
    """Initializes a layer as Caffe2's `XavierFill` does."""
    kaiming_init(module, a=1, mode="fan_in", nonlinearity="leaky_relu", bias=bias, distribution="uniform")


def update_init_info(module: nn.Module, init_info: str) -> None:
    """Does nothing, because footplate does not record which initializer changed a parameter."""


def is_norm(layer: nn.Module, exclude: type | tuple[type, ...] | None = None) -> bool:
    """Checks whether a layer is a normalization layer, and not of the class or classes `exclude`."""
    if exclude is not None and isinstance(layer, exclude):
        return False
    return isinstance(layer, (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm, nn.LayerNorm))


def has_batch_norm(model: nn.Module) -> bool:
    """Checks whether a model has a batch norm layer."""
    return any(isinstance(module, BATCH_NORMS) for module in model.modules())


class _BatchNormXd(nn.BatchNorm2d):
    """Batch norm for inputs with any number of dimensions, like SyncBN."""

    def _check_input_dim(self, input: Tensor) -> None:
        return None


def revert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Replaces the SyncBN layers of a model with batch norm layers that have the same state. Returns the model."""
    of_mmcv = getattr(sys.modules.get("mmcv.ops"), "SyncBatchNorm", nn.SyncBatchNorm)
    if isinstance(module, (nn.SyncBatchNorm, of_mmcv)):
        plain = _BatchNormXd(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(plain, name, getattr(module, name, None))
        plain.training = module.training
        if hasattr(module, "qconfig"):
            plain.qconfig = module.qconfig
        return plain
    for name, child in module.named_children():
        replaced = revert_sync_batchnorm(child)
        if replaced is not child:
            setattr(module, name, replaced)
    return module


def convert_sync_batchnorm(module: nn.Module, implementation: str = "torch") -> nn.Module:
    """Replaces the batch norm layers of a model with SyncBN and returns the model.

    Raises:
        ValueError: The implementation is not "torch".
    """
    if implementation != "torch":
        raise ValueError(f"footplate supports only PyTorch's SyncBN, not that of '{implementation}'. Pass 'torch'.")
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return converted


def detect_anomalous_params(loss: Tensor, model: nn.Module) -> None:
    """Warns about parameters that the loss does not depend on."""
    seen = set()
    pending, visited = [loss.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            seen.add(node.variable)
        pending += [each for each, _ in node.next_functions]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter not in seen:
            warnings.warn(f"The loss does not depend on the parameter '{name}'.", UserWarning, stacklevel=2)


def merge_dict(*args: Mapping[str, Any]) -> dict[str, Any]:
    """Merges dicts; later values take precedence."""
    return {key: value for each in args for key, value in each.items()}
