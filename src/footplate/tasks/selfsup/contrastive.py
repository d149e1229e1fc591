"""The projection neck and the contrastive loss of SimCLR."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.checks import check_count
from footplate.errors import ArgumentError, DataError
from footplate.models import BaseModule
from footplate.models.base_module import InitCfg
from footplate.registry import MODELS


@MODELS.register_module()
class NonLinearNeck(BaseModule):
    """An MLP: linear layers with batch normalisation and ReLU between them.

    Args:
        in_channels: The number of input channels.
        hid_channels: The number of hidden channels.
        out_channels: The number of output channels.
        num_layers: The number of linear layers, at least two.
        with_avg_pool: Whether to average feature maps over their spatial dimensions first.
        init_cfg: See `BaseModule`.

    Raises:
        ArgumentError: `num_layers` is below two.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", arXiv:2002.05709.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int,
        out_channels: int,
        num_layers: int = 2,
        with_avg_pool: bool = True,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        check_count("num_layers", num_layers, least=2)
        self.with_avg_pool = with_avg_pool
        widths = [in_channels, *[hid_channels] * (num_layers - 1)]
        self.layers = nn.Sequential()
        for before, after in zip(widths, widths[1:], strict=False):
            self.layers.extend([nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)])
        self.layers.append(nn.Linear(hid_channels, out_channels))

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Returns ``(N, out_channels)`` for features ``(N, C)`` or ``(N, C, H, W)``, or for the last of a sequence."""
        last = features if isinstance(features, Tensor) else features[-1]
        projected: Tensor = self.layers(last.mean(dim=(2, 3)) if self.with_avg_pool and last.dim() == 4 else last)
        return projected


@MODELS.register_module()
class ContrastiveHead(nn.Module):
    """The NT-Xent loss, which trains each view to be most similar to the other view of the same image.

    In distributed training, each rank uses only the views of its own batch.

    Args:
        temperature: The divisor of the cosine similarities. A smaller value gives similar images more weight.

    Raises:
        ArgumentError: `temperature` is not positive.

    Source: Chen et al., arXiv:2002.05709, section 2.1, NT-Xent.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if not temperature > 0:
            raise ArgumentError("temperature must be above 0", key="temperature", found=temperature)
        self.temperature = temperature

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns the mean loss over all views, ``()``.

        Args:
            first: Projections of the first views, ``(N, D)``.
            second: Projections of the second views, in the same order.
        """
        return nt_xent(first, second, self.temperature)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Returns the normalised temperature-scaled cross entropy of two views, ``()``.

    Args:
        first: ``(N, D)``, not necessarily normalised.
        second: ``(N, D)``.
        temperature: The divisor of the cosine similarities.

    Raises:
        DataError: The views differ in shape, or have fewer than two images.
    """
    if first.shape != second.shape or len(first) < 2:
        raise DataError("two views of two pictures or more", found=(tuple(first.shape), tuple(second.shape)))
    views = F.normalize(torch.cat([first, second]).float(), dim=1)
    cosines = views @ views.T / temperature
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    partners = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(cosines.masked_fill(itself, float("-inf")), partners)
