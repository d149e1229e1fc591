"""The models that every engine trains. They return a loss, or scores if there are no labels."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.engines.stamps import Stamps


class Measured(nn.Module):
    """A network with a loss, which records the time of each forward pass."""

    def __init__(self, network: nn.Module, stamps: Stamps) -> None:
        super().__init__()
        self.network = network
        self.stamps = stamps

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns the loss ``()``, or scores ``(N, C)`` without labels."""
        self.stamps()
        scores: Tensor = self.network(inputs)
        return scores if labels is None else F.cross_entropy(scores.float(), labels)


class ManyTensors(nn.Module):
    """A narrow network of 53 convolutions, 53 normalization layers and a classifier: 161 tensors, like a ResNet-50."""

    def __init__(self) -> None:
        super().__init__()
        width = 16
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in range(53))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(53))
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            images = images + torch.relu(norm(conv(images)))
        scores: Tensor = self.head(images.mean((2, 3)))
        return scores


class Bottleneck(nn.Module):
    """The block of a ResNet-50."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            *_convolution(channels, width, 1),
            nn.ReLU(inplace=True),
            *_convolution(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *_convolution(width, out, 1),
        )
        same = channels == out and stride == 1
        self.skip = nn.Identity() if same else nn.Sequential(*_convolution(channels, out, 1, stride))

    def forward(self, inputs: Tensor) -> Tensor:
        return F.relu(self.body(inputs) + self.skip(inputs), inplace=True)


def _convolution(channels: int, out: int, size: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out)


def resnet50(width: int = 64, depths: tuple[int, ...] = (3, 4, 6, 3), classes: int = 1000) -> nn.Sequential:
    """Returns a ResNet-50, with 25.6 million parameters at the default width.

    Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385.
    """
    layers: list[nn.Module] = [*_convolution(3, width, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = width
    for stage, depth in enumerate(depths):
        inner = width * 2**stage
        for place in range(depth):
            layers.append(Bottleneck(channels, inner, 2 if stage and not place else 1))
            channels = 4 * inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def _tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 2))


def _small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))


def _heavy() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 2000), nn.ReLU(), nn.Linear(2000, 2000), nn.ReLU(), nn.Linear(2000, 2))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tiny": _tiny,
    "many": ManyTensors,
    "small": _small,
    "heavy": _heavy,
    "resnet": resnet50,
}
_SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "tiny": ((8, 32), 2),
    "many": ((4, 16, 4, 4), 10),
    "small": ((16, 3, 32, 32), 10),
    "heavy": ((8, 32), 2),
    "resnet": ((4, 3, 128, 128), 1000),
}


def inputs_of(name: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns a random batch for a network."""
    shape, classes = _SHAPES[name]
    labels = torch.randint(0, classes, shape[:1], generator=generator)
    return torch.randn(shape, generator=generator), labels
