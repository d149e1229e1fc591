"""SegFormer of the transformers package, built from a config without downloads."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from footplate.errors import ArgumentError, MissingExtraError
from footplate.messages import nearest
from footplate.registry import MODELS
from footplate.tasks.segmentation.base import BaseSegmentor
from footplate.tasks.transformers_config import check_offline


@MODELS.register_module()
class SegFormer(BaseSegmentor):
    """SegFormer: a hierarchical transformer with an MLP decoder. Weights are not downloaded.

    Args:
        num_classes: The number of classes, including the background.
        config: Arguments of transformers' `SegformerConfig`, such as `hidden_sizes`, `depths`, `sr_ratios`.
        settings: Arguments of `BaseSegmentor`.

    Raises:
        MissingExtraError: The package transformers is not installed.
        ArgumentError: `config` has an unknown key.

    Source: Xie et al., "SegFormer", arXiv:2105.15203.
    """

    def __init__(self, num_classes: int, *, config: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(num_classes, **settings)
        self.network: Any = _build(num_classes, config or {})

    def score(self, inputs: Tensor) -> Tensor:
        """Returns scores ``(N, num_classes, H, W)``, interpolated from a quarter of the resolution."""
        scores = self.network(pixel_values=inputs).logits
        return F.interpolate(scores.float(), inputs.shape[-2:], mode="bilinear", align_corners=False)


def _build(num_classes: int, config: dict[str, Any]) -> Any:
    try:
        from transformers import SegformerConfig, SegformerForSemanticSegmentation
    except ImportError as error:
        why = "SegFormer is a model of that package"
        raise MissingExtraError("transformers", extra="transformers", why=why) from error
    check_offline(config)
    known = SegformerConfig().to_dict()
    for key in config:
        if key not in known:
            near = nearest(key, known)
            raise ArgumentError(f"SegFormer's config has no '{key}'", key=f"config.{key}", suggestion=near)
    settings: dict[str, Any] = {**config, "num_labels": num_classes}
    return SegformerForSemanticSegmentation(SegformerConfig(**settings))
