"""Weight initializers by name."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor, nn

from footplate.checkpoint import load_weights
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.registry import WEIGHT_INITIALIZERS

Layers = str | Sequence[str] | None
Distribution = Literal["normal", "uniform"]


class BaseInit:
    """The base class of initializers: initializes the layers of given classes in a module.

    Args:
        bias: The value of biases.
        bias_prob: A probability that replaces `bias`: the bias is set so that its sigmoid is this value.
        layer: The names of the layer classes, or of their direct base classes. Without it, only submodules named by
            an override are initialized.

    Raises:
        ArgumentError: An argument is of the wrong type.
    """

    def __init__(self, *, bias: float = 0, bias_prob: float | None = None, layer: Layers = None) -> None:
        if not isinstance(bias, (int, float)):
            raise ArgumentError("bias must be a number", key="bias", found=bias)
        if bias_prob is not None and not 0 < bias_prob < 1:
            raise ArgumentError("bias_prob must be a number between 0 and 1", key="bias_prob", found=bias_prob)
        self.bias = bias if bias_prob is None else bias_from_probability(bias_prob)
        if layer is not None and not isinstance(layer, (str, list, tuple)):
            raise ArgumentError("layer must be the name of a class or a list of names", key="layer", found=layer)
        self.layers = (layer,) if isinstance(layer, str) else tuple(layer or ())

    def initialize(self, module: nn.Module, *, everything: bool) -> None:
        """Initializes the layers of `module` that are instances of the chosen classes, children first.

        Args:
            module: The module; it may itself be one of these layers.
            everything: Whether to initialize all layers regardless of their class.
        """
        for each in _children_first(module):
            names = {type(each).__name__, *(base.__name__ for base in type(each).__bases__)}
            if everything or names & set(self.layers):
                self._initialize_layer(each)

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight."""
        raise NotImplementedError

    def _initialize_layer(self, layer: nn.Module) -> None:
        if isinstance(getattr(layer, "weight", None), Tensor):
            self.fill(layer.weight)  # type: ignore[arg-type]
        if isinstance(getattr(layer, "bias", None), Tensor):
            nn.init.constant_(layer.bias, self.bias)  # type: ignore[arg-type]


@WEIGHT_INITIALIZERS.register_module(name="Constant")
class ConstantInit(BaseInit):
    """Sets weights to a constant.

    Args:
        val: The constant.
        bias: See `BaseInit`.
        bias_prob: See `BaseInit`.
        layer: See `BaseInit`.
    """

    def __init__(self, val: float, *, bias: float = 0, bias_prob: float | None = None, layer: Layers = None) -> None:
        super().__init__(bias=bias, bias_prob=bias_prob, layer=layer)
        self.val = val

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight."""
        nn.init.constant_(weight, self.val)


@WEIGHT_INITIALIZERS.register_module(name="Xavier")
class XavierInit(BaseInit):
    """Draws weights such that layers preserve the variance of activations and gradients (Xavier/Glorot).

    Source: Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks"
    (AISTATS 2010).

    Args:
        gain: The factor that scales the weights.
        bias: See `BaseInit`.
        bias_prob: See `BaseInit`.
        layer: See `BaseInit`.
        distribution: The distribution of the weights, "normal" or "uniform".
    """

    def __init__(
        self,
        gain: float = 1,
        *,
        bias: float = 0,
        bias_prob: float | None = None,
        layer: Layers = None,
        distribution: Distribution = "normal",
    ) -> None:
        super().__init__(bias=bias, bias_prob=bias_prob, layer=layer)
        self.gain = gain
        self.distribution = _check_distribution(distribution)

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight; one-dimensional weights, as of normalization layers, are left unchanged."""
        if weight.dim() < 2:
            return
        fill = nn.init.xavier_uniform_ if self.distribution == "uniform" else nn.init.xavier_normal_
        fill(weight, gain=self.gain)


@WEIGHT_INITIALIZERS.register_module(name="Normal")
class NormalInit(BaseInit):
    """Draws weights from a normal distribution.

    Args:
        mean: The mean.
        std: The standard deviation.
        bias: See `BaseInit`.
        bias_prob: See `BaseInit`.
        layer: See `BaseInit`.
    """

    def __init__(
        self,
        mean: float = 0,
        std: float = 1,
        *,
        bias: float = 0,
        bias_prob: float | None = None,
        layer: Layers = None,
    ) -> None:
        super().__init__(bias=bias, bias_prob=bias_prob, layer=layer)
        self.mean = mean
        self.std = std

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight."""
        nn.init.normal_(weight, self.mean, self.std)


@WEIGHT_INITIALIZERS.register_module(name="TruncNormal")
class TruncNormalInit(NormalInit):
    """Draws weights from a truncated normal distribution.

    Args:
        mean: The mean before truncation.
        std: The standard deviation before truncation.
        a: The lower bound.
        b: The upper bound.
        bias: See `BaseInit`.
        bias_prob: See `BaseInit`.
        layer: See `BaseInit`.
    """

    def __init__(
        self,
        mean: float = 0,
        std: float = 1,
        a: float = -2,
        b: float = 2,
        *,
        bias: float = 0,
        bias_prob: float | None = None,
        layer: Layers = None,
    ) -> None:
        super().__init__(mean, std, bias=bias, bias_prob=bias_prob, layer=layer)
        self.a = a
        self.b = b

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight."""
        nn.init.trunc_normal_(weight, self.mean, self.std, self.a, self.b)


@WEIGHT_INITIALIZERS.register_module(name="Uniform")
class UniformInit(BaseInit):
    """Draws weights from a uniform distribution.

    Args:
        a: The lower bound.
        b: The upper bound.
        bias: See `BaseInit`.
        bias_prob: See `BaseInit`.
        layer: See `BaseInit`.
    """

    def __init__(
        self,
        a: float = 0,
        b: float = 1,
        *,
        bias: float = 0,
        bias_prob: float | None = None,
        layer: Layers = None,
    ) -> None:
        super().__init__(bias=bias, bias_prob=bias_prob, layer=layer)
        self.a = a
        self.b = b

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight."""
        nn.init.uniform_(weight, self.a, self.b)


@WEIGHT_INITIALIZERS.register_module(name="Kaiming")
class KaimingInit(BaseInit):
    """Draws weights such that layers followed by ReLU preserve the variance (Kaiming/He).

    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers" (ICCV 2015).

    Args:
        a: The negative slope of a leaky ReLU.
        mode: "fan_in" preserves the variance of activations, "fan_out" that of gradients.
        nonlinearity: The activation after the layer, "relu" or "leaky_relu".
        bias: See `BaseInit`.
        bias_prob: See `BaseInit`.
        layer: See `BaseInit`.
        distribution: The distribution of the weights, "normal" or "uniform".
    """

    def __init__(
        self,
        a: float = 0,
        mode: Literal["fan_in", "fan_out"] = "fan_out",
        nonlinearity: Literal["relu", "leaky_relu"] = "relu",
        *,
        bias: float = 0,
        bias_prob: float | None = None,
        layer: Layers = None,
        distribution: Distribution = "normal",
    ) -> None:
        super().__init__(bias=bias, bias_prob=bias_prob, layer=layer)
        self.a = a
        self.mode = mode
        self.nonlinearity = nonlinearity
        self.distribution = _check_distribution(distribution)

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight; one-dimensional weights, as of normalization layers, are left unchanged."""
        if weight.dim() < 2:
            return
        fill = nn.init.kaiming_uniform_ if self.distribution == "uniform" else nn.init.kaiming_normal_
        fill(weight, a=self.a, mode=self.mode, nonlinearity=self.nonlinearity)


@WEIGHT_INITIALIZERS.register_module(name="Caffe2Xavier")
class Caffe2XavierInit(KaimingInit):
    """Draws weights as Caffe2's XavierFill does: uniformly, with bounds that depend only on the fan-in.

    Args:
        bias: See `BaseInit`.
        bias_prob: See `BaseInit`.
        layer: See `BaseInit`.
    """

    def __init__(self, *, bias: float = 0, bias_prob: float | None = None, layer: Layers = None) -> None:
        super().__init__(1, "fan_in", "leaky_relu", bias=bias, bias_prob=bias_prob, layer=layer, distribution="uniform")


@WEIGHT_INITIALIZERS.register_module(name="Pretrained")
class PretrainedInit:
    """Loads all matching weights from a checkpoint.

    Args:
        checkpoint: The path of the checkpoint.
        prefix: The prefix of the keys to load, such as "backbone"; it is removed from the keys.
        revise_keys: Pairs (regular expression, replacement), applied to the keys of the checkpoint before `prefix`.
        map_location: Accepted for compatibility; weights are loaded to the device of the module.

    Raises:
        CheckpointError: During initialization, if the checkpoint cannot be read or has no matching weights.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str | None = None,
        *,
        revise_keys: Sequence[tuple[str, str]] = ((r"^module\.", ""),),
    ) -> None:
        self.checkpoint = checkpoint
        self.revise_keys = [(pattern, replacement) for pattern, replacement in revise_keys]
        self.prefix = prefix.removesuffix(".") + "." if prefix else None

    def initialize(self, module: nn.Module, *, everything: bool) -> None:
        """Loads the weights into `module`; `everything` has no effect."""
        with at_key("checkpoint"):
            load_weights(module, self.checkpoint, prefix=self.prefix, revise_keys=self.revise_keys)


def bias_from_probability(probability: float) -> float:
    """Returns the bias for which the sigmoid is `probability`.

    Example:
        >>> round(bias_from_probability(0.01), 4)
        -4.5951
    """
    return -math.log((1 - probability) / probability)


def _check_distribution(distribution: str) -> Distribution:
    if distribution == "normal" or distribution == "uniform":
        return "normal" if distribution == "normal" else "uniform"
    raise ArgumentError(
        f"unknown distribution '{distribution}'",
        key="distribution",
        suggestion=nearest(distribution, ("normal", "uniform")),
    )


def _children_first(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield from _children_first(child)
    yield module
