"""SimCLR: contrastive learning of two views of each image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from footplate.errors import DataError
from footplate.registry import MODELS
from footplate.tasks.selfsup.base import BaseSelfSup
from footplate.tasks.selfsup.sample import SelfSupDataSample


@MODELS.register_module()
class SimCLR(BaseSelfSup):
    """SimCLR: contrastive learning of two views.

    Args:
        backbone: Maps images to feature maps ``(N, C, H, W)``; if it returns several, the last is used. A module or a
            config for MODELS, as are neck and head.
        neck: Maps feature maps to projections ``(N, D)``, such as NonLinearNeck.
        head: Computes the loss from the projections of two views, such as ContrastiveHead.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", arXiv:2002.05709.

    Example:
        >>> model = SimCLR(
        ...     backbone=dict(type="SmallResNet", in_channels=1),
        ...     neck=dict(type="NonLinearNeck", in_channels=128, hid_channels=128, out_channels=64),
        ...     head=dict(type="ContrastiveHead", temperature=0.2),
        ... )
        >>> model([torch.zeros(2, 1, 28, 28)]).shape
        torch.Size([2, 128])
    """

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Returns the spatially averaged features of the backbone, ``(N, D)``, for images ``(N, C, H, W)``."""
        features = self.backbone(inputs)
        last: Tensor = features if isinstance(features, Tensor) else features[-1]
        return last.mean(dim=(2, 3)) if last.dim() == 4 else last

    def loss(self, inputs: Sequence[Tensor], data_samples: Sequence[SelfSupDataSample] | None) -> dict[str, Tensor]:
        """Returns the `loss` of two views.

        Raises:
            DataError: The number of views is not two.
        """
        if len(inputs) != 2:
            raise DataError(
                f"SimCLR compares two views of a picture, not {len(inputs)}", notes=["MultiView makes them"]
            )
        # Run both views in one batch, so that batch normalisation uses the statistics of both.
        first, second = self.neck(self.backbone(torch.cat(list(inputs)))).chunk(2)
        return {"loss": self.head(first, second)}
