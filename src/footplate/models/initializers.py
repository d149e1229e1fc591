"""Weight initializers, which configs select by name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from footplate.checkpoint import STRIP_WRAPPER, load_weights
from footplate.checks import check_choice, check_names, check_number
from footplate.error_context import at_key
from footplate.registry import WEIGHT_INITIALIZERS

Layers = str | Sequence[str] | None


@torch.no_grad()
def truncated_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Fills a tensor with samples from a normal distribution truncated to `[a, b]`, using inverse transform sampling.

    `mean` and `std` describe the distribution before truncation. Unlike with `nn.init.trunc_normal_`, the result for a
    given seed does not depend on the PyTorch version.
    """
    below, above = (math.erf((bound - mean) / std / math.sqrt(2)) for bound in (a, b))
    values = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    nearly_one = 1 - 2**-24  # the inverse error function is infinite at one
    values.uniform_(below, above).clamp_(-nearly_one, nearly_one).erfinv_()
    values.mul_(std * math.sqrt(2)).add_(mean).clamp_(a, b)
    return tensor if values is tensor else tensor.copy_(values)


@dataclass(kw_only=True)
class BaseInit:
    """Base class for initializers, which initialize all layers of selected classes in a module.

    Args:
        bias: The value that biases are set to.
        bias_prob: If set, biases are initialized to the value whose sigmoid is this probability, instead of `bias`.
        layer: The class names of the layers to initialize; names of direct base classes also match. If not set, only
            submodules in overrides are initialized.

    Raises:
        ArgumentError: An argument has the wrong type or is out of range.
    """

    bias: float = 0
    bias_prob: float | None = None
    layer: Layers = None

    least_dim: ClassVar[int] = 0
    """Weights with fewer dimensions than this, as in normalization layers, are left unchanged."""

    def __post_init__(self) -> None:
        if self.bias_prob is not None:
            check_number("bias_prob", self.bias_prob, above=0, below=1)
            self.bias = bias_from_probability(self.bias_prob)
        self.layers = check_names("layer", self.layer)

    def initialize(self, module: nn.Module, *, everything: bool) -> None:
        """Initializes the layers in `module` whose class is selected by `layer`, children first.

        Args:
            module: The module. It is also initialized if its class is selected.
            everything: Whether to initialize all layers regardless of their class.
        """
        for child in module.children():
            self.initialize(child, everything=everything)
        names = {base.__name__ for base in (type(module), *type(module).__bases__)}
        if everything or not names.isdisjoint(self.layers):
            self.initialize_layer(module)

    def initialize_layer(self, module: nn.Module) -> None:
        """Initializes a layer's own weight and bias. Does not change the layer's children."""
        weight = getattr(module, "weight", None)
        bias = getattr(module, "bias", None)
        if isinstance(weight, Tensor) and weight.dim() >= self.least_dim:
            self.fill(weight)
        if isinstance(bias, Tensor):
            nn.init.constant_(bias, self.bias)

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight tensor in place."""
        raise NotImplementedError


@WEIGHT_INITIALIZERS.register_module(name="Constant")
@dataclass
class ConstantInit(BaseInit):
    """Sets weights to a constant; see `BaseInit` for the other arguments.

    Args:
        val: The constant.
    """

    val: float

    def fill(self, weight: Tensor) -> None:
        nn.init.constant_(weight, self.val)


@WEIGHT_INITIALIZERS.register_module(name="Normal")
@dataclass
class NormalInit(BaseInit):
    """Draws weights from a normal distribution; see `BaseInit` for the other arguments.

    Args:
        mean: The mean.
        std: The standard deviation.
    """

    mean: float = 0
    std: float = 1

    def fill(self, weight: Tensor) -> None:
        nn.init.normal_(weight, self.mean, self.std)


@WEIGHT_INITIALIZERS.register_module(name="TruncNormal")
@dataclass
class TruncNormalInit(NormalInit):
    """Draws weights from a truncated normal distribution; see `BaseInit` for the other arguments.

    Args:
        mean: The mean before truncation.
        std: The standard deviation before truncation.
        a: The lower bound.
        b: The upper bound.
    """

    a: float = -2
    b: float = 2

    def fill(self, weight: Tensor) -> None:
        truncated_normal_(weight, self.mean, self.std, self.a, self.b)


@WEIGHT_INITIALIZERS.register_module(name="Uniform")
@dataclass
class UniformInit(BaseInit):
    """Draws weights from a uniform distribution; see `BaseInit` for the other arguments.

    Args:
        a: The lower bound.
        b: The upper bound.
    """

    a: float = 0
    b: float = 1

    def fill(self, weight: Tensor) -> None:
        nn.init.uniform_(weight, self.a, self.b)


@dataclass(kw_only=True)
class VariancePreservingInit(BaseInit):
    """Base class for initializers that derive the variance of a weight from its shape.

    Args:
        distribution: The distribution of the weights, "normal" or "uniform".

    Raises:
        ArgumentError: `distribution` is unknown.
    """

    distribution: Literal["normal", "uniform"] = "normal"

    least_dim: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("distribution", self.distribution, ("normal", "uniform"))


@WEIGHT_INITIALIZERS.register_module(name="Xavier")
@dataclass
class XavierInit(VariancePreservingInit):
    """Draws weights so that layers preserve the variance of activations and gradients (Xavier/Glorot).

    One-dimensional weights are left unchanged. See `VariancePreservingInit` and `BaseInit` for the other arguments.

    Source: Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks"
    (AISTATS 2010).

    Args:
        gain: A scaling factor for the weights.
    """

    gain: float = 1

    def fill(self, weight: Tensor) -> None:
        getattr(nn.init, f"xavier_{self.distribution}_")(weight, gain=self.gain)


@WEIGHT_INITIALIZERS.register_module(name="Kaiming")
@dataclass
class KaimingInit(VariancePreservingInit):
    """Draws weights so that layers followed by a ReLU preserve the variance of activations or gradients (Kaiming/He).

    One-dimensional weights are left unchanged. See `VariancePreservingInit` and `BaseInit` for the other arguments.

    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers" (ICCV 2015).

    Args:
        a: The negative slope of a leaky ReLU.
        mode: "fan_in" preserves the variance of activations, and "fan_out" preserves the variance of gradients.
        nonlinearity: The activation after the layer, "relu" or "leaky_relu".
    """

    a: float = 0
    mode: Literal["fan_in", "fan_out"] = "fan_out"
    nonlinearity: Literal["relu", "leaky_relu"] = "relu"

    def fill(self, weight: Tensor) -> None:
        draw = getattr(nn.init, f"kaiming_{self.distribution}_")
        draw(weight, a=self.a, mode=self.mode, nonlinearity=self.nonlinearity)


@WEIGHT_INITIALIZERS.register_module(name="Caffe2Xavier")
class Caffe2XavierInit(BaseInit):
    """Draws weights like Caffe2's XavierFill: uniformly, with bounds that depend only on the fan-in.

    One-dimensional weights are left unchanged. See `BaseInit` for the arguments.
    """

    least_dim: ClassVar[int] = 2

    def fill(self, weight: Tensor) -> None:
        nn.init.kaiming_uniform_(weight, a=1, mode="fan_in", nonlinearity="leaky_relu")


@WEIGHT_INITIALIZERS.register_module(name="Pretrained")
class PretrainedInit:
    """Loads all matching weights from a checkpoint.

    Args:
        checkpoint: The path of the checkpoint, or an address such as "torchvision://resnet50".
        prefix: The prefix of the keys to load, e.g. "backbone". It is stripped from the keys.
        revise_keys: Pairs of a regular expression and its replacement, applied to the checkpoint keys before `prefix`.
        map_location: Ignored; weights are loaded onto the module's device.

    Raises:
        CheckpointError: Raised during initialization if the checkpoint cannot be read or has no matching weights.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str | None = None,
        *,
        revise_keys: Sequence[tuple[str, str]] = STRIP_WRAPPER,
    ) -> None:
        self.checkpoint = checkpoint
        self.revise_keys = revise_keys
        self.prefix = prefix

    def initialize(self, module: nn.Module, *, everything: bool) -> None:
        """Loads the weights into `module`. `everything` has no effect."""
        with at_key("checkpoint"):
            load_weights(module, self.checkpoint, prefix=self.prefix, revise_keys=self.revise_keys)


def bias_from_probability(probability: float) -> float:
    """Returns the bias whose sigmoid is `probability`.

    Example:
        >>> round(bias_from_probability(0.01), 4)
        -4.5951
    """
    return -math.log((1 - probability) / probability)
