"""SimCLR: two views of a picture look alike to the network, other pictures do not."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from footplate.errors import ArgumentError, DataError, at_key
from footplate.models import BaseModel
from footplate.registry import MODELS
from footplate.tasks.selfsup.sample import SelfSupDataSample

Cfg = Mapping[str, Any] | nn.Module


@MODELS.register_module()
class SimCLR(BaseModel):
    """Contrastive learning of two views.

    Args:
        backbone: From pictures to feature maps ``(N, C, H, W)``, the last of several counts; a module or a dict for
            MODELS, as are the others.
        neck: From these to projections ``(N, D)``, such as NonLinearNeck.
        head: From the projections of two views to the loss, such as ContrastiveHead.
        data_preprocessor: See `BaseModel`; usually a SelfSupDataPreprocessor.
        init_cfg: See `BaseModel`.

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

    def __init__(
        self,
        backbone: Cfg,
        neck: Cfg,
        head: Cfg,
        data_preprocessor: Cfg | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = build_part("backbone", backbone)
        self.neck = build_part("neck", neck)
        self.head = build_part("head", head)

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence[SelfSupDataSample] | None = None,
        mode: Literal["tensor", "loss", "predict"] = "tensor",
    ) -> Any:
        """Returns what `mode` asks for.

        Args:
            inputs: Views, ``(N, C, H, W)`` each, float; two for the loss, the first counts otherwise.
            data_samples: Those of a prediction are filled and returned.
            mode: "tensor": features ``(N, D)``; "loss": a dict with `loss`; "predict": a SelfSupDataSample with
                `features` for each picture.

        Raises:
            ArgumentError: There is no such mode.
            DataError: The loss is asked for and there are not two views.
        """
        if mode == "loss":
            return {"loss": self._loss(inputs)}
        if mode == "tensor":
            return self.extract_feat(inputs[0])
        if mode == "predict":
            return fill_features(self.extract_feat(inputs[0]), data_samples)
        raise ArgumentError("a model is asked for 'tensor', 'loss' or 'predict'", key="mode", found=mode)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Returns the backbone's last features, averaged over places, ``(N, D)``, for pictures ``(N, C, H, W)``."""
        features = self.backbone(inputs)
        last: Tensor = features if isinstance(features, Tensor) else features[-1]
        return last.mean(dim=(2, 3)) if last.dim() == 4 else last

    def _loss(self, views: Sequence[Tensor]) -> Tensor:
        if len(views) != 2:
            raise DataError(f"SimCLR compares two views of a picture, not {len(views)}", notes=["MultiView makes them"])
        # Both views at once: batch normalisation sees them together, as the projections of both are compared.
        first, second = self.neck(self.backbone(torch.cat(list(views)))).chunk(2)
        loss: Tensor = self.head(first, second)
        return loss


def build_part(name: str, cfg: Cfg) -> nn.Module:
    """Returns a module, or the one that a dict describes; mistakes in it are told with `name` before their key."""
    if isinstance(cfg, nn.Module):
        return cfg
    with at_key(name):
        built: nn.Module = MODELS.build(cfg)
    return built


def fill_features(features: Tensor, samples: Sequence[SelfSupDataSample] | None) -> list[SelfSupDataSample]:
    """Writes features ``(N, D)`` into samples, new ones where there are none."""
    filled = list(samples) if samples is not None else [SelfSupDataSample() for _ in features]
    for sample, row in zip(filled, features.float(), strict=True):
        sample.features = row
    return filled
