"""How weights are initialized, by name."""

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
    """Initializes the layers of some classes in a module.

    Args:
        bias: Value of the biases.
        bias_prob: In place of `bias`: the probability that the sigmoid of the bias shall be.
        layer: Names of the classes, or of their direct bases; without it only parts that an override names are
            initialized.

    Raises:
        ArgumentError: An argument is of the wrong type.
    """

    def __init__(self, *, bias: float = 0, bias_prob: float | None = None, layer: Layers = None) -> None:
        if not isinstance(bias, (int, float)):
            raise ArgumentError("bias is a number", key="bias", found=bias)
        if bias_prob is not None and not 0 < bias_prob < 1:
            raise ArgumentError("bias_prob is a probability", key="bias_prob", found=bias_prob)
        self.bias = bias if bias_prob is None else bias_from_probability(bias_prob)
        if layer is not None and not isinstance(layer, (str, list, tuple)):
            raise ArgumentError("layer is the name of a class, or a list of names", key="layer", found=layer)
        self.layers = (layer,) if isinstance(layer, str) else tuple(layer or ())

    def initialize(self, module: nn.Module, *, everything: bool) -> None:
        """Initializes the chosen layers of `module`, children first.

        Args:
            module: The module itself included.
            everything: Whether all layers are chosen, whatever their class.
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
    """Sets weights to one value.

    Args:
        val: The value.
        bias: As of BaseInit.
        bias_prob: As of BaseInit.
        layer: As of BaseInit.
    """

    def __init__(self, val: float, *, bias: float = 0, bias_prob: float | None = None, layer: Layers = None) -> None:
        super().__init__(bias=bias, bias_prob=bias_prob, layer=layer)
        self.val = val

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight."""
        nn.init.constant_(weight, self.val)


@WEIGHT_INITIALIZERS.register_module(name="Xavier")
class XavierInit(BaseInit):
    """Keeps the variance of signals and gradients.

    Source: Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks"
    (AISTATS 2010).

    Args:
        gain: Scales the weights.
        bias: As of BaseInit.
        bias_prob: As of BaseInit.
        layer: As of BaseInit.
        distribution: "normal" or "uniform".
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
        self.distribution = _checked(distribution)

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight; those of norm layers stay."""
        if weight.dim() < 2:
            return
        fill = nn.init.xavier_uniform_ if self.distribution == "uniform" else nn.init.xavier_normal_
        fill(weight, gain=self.gain)


@WEIGHT_INITIALIZERS.register_module(name="Normal")
class NormalInit(BaseInit):
    """Draws weights from a normal distribution.

    Args:
        mean: Its mean.
        std: Its standard deviation.
        bias: As of BaseInit.
        bias_prob: As of BaseInit.
        layer: As of BaseInit.
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
    """Draws weights from a normal distribution within bounds.

    Args:
        mean: Its mean.
        std: Its standard deviation.
        a: The least value.
        b: The largest value.
        bias: As of BaseInit.
        bias_prob: As of BaseInit.
        layer: As of BaseInit.
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
    """Draws weights evenly between two values.

    Args:
        a: The least value.
        b: The largest value.
        bias: As of BaseInit.
        bias_prob: As of BaseInit.
        layer: As of BaseInit.
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
    """Keeps the variance of signals through rectifiers.

    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers" (ICCV 2015).

    Args:
        a: Slope of a leaky rectifier on its negative side.
        mode: "fan_out" keeps the variance of gradients, "fan_in" that of signals.
        nonlinearity: "relu" or "leaky_relu".
        bias: As of BaseInit.
        bias_prob: As of BaseInit.
        layer: As of BaseInit.
        distribution: "normal" or "uniform".
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
        self.distribution = _checked(distribution)

    def fill(self, weight: Tensor) -> None:
        """Initializes one weight; those of norm layers stay."""
        if weight.dim() < 2:
            return
        fill = nn.init.kaiming_uniform_ if self.distribution == "uniform" else nn.init.kaiming_normal_
        fill(weight, a=self.a, mode=self.mode, nonlinearity=self.nonlinearity)


@WEIGHT_INITIALIZERS.register_module(name="Caffe2Xavier")
class Caffe2XavierInit(KaimingInit):
    """What Caffe2 calls Xavier: even between bounds that the number of inputs alone decides.

    Args:
        bias: As of BaseInit.
        bias_prob: As of BaseInit.
        layer: As of BaseInit.
    """

    def __init__(self, *, bias: float = 0, bias_prob: float | None = None, layer: Layers = None) -> None:
        super().__init__(1, "fan_in", "leaky_relu", bias=bias, bias_prob=bias_prob, layer=layer, distribution="uniform")


@WEIGHT_INITIALIZERS.register_module(name="Pretrained")
class PretrainedInit:
    """Takes the weights from a checkpoint, as far as they fit.

    Args:
        checkpoint: Its path.
        prefix: Take only what lies under it: "backbone".
        revise_keys: Pairs (regular expression, replacement) for the checkpoint's keys, before `prefix` is taken off.
        map_location: Accepted for configs that set it; weights go where the module lies.

    Raises:
        CheckpointError: While initializing: it cannot be read, or nothing in it fits.
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
        """Fills `module`; `everything` makes no difference."""
        with at_key("checkpoint"):
            load_weights(module, self.checkpoint, prefix=self.prefix, revise_keys=self.revise_keys)


def bias_from_probability(probability: float) -> float:
    """Returns the bias whose sigmoid is `probability`.

    Example:
        >>> round(bias_from_probability(0.01), 4)
        -4.5951
    """
    return -math.log((1 - probability) / probability)


def _checked(distribution: str) -> Distribution:
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
