"""Models of transformers are made from their config: nothing is downloaded or executed for them."""

from typing import Any

import pytest

from footplate.errors import ArgumentError
from footplate.registry import MODELS


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"use_pretrained_backbone": True}, "config.use_pretrained_backbone"),
        ({"backbone": "someone/code"}, "config.backbone"),
        ({"use_timm_backbone": True}, "config.use_timm_backbone"),
        ({"auto_map": {"AutoModelForObjectDetection": "someone/code--file.Model"}}, "config.auto_map"),
        ({"attn_implementation": "someone/kernels"}, "config.attn_implementation"),
        ({"backbone_config": {"auto_map": {"AutoBackbone": "a--b.C"}}}, "config.backbone_config.auto_map"),
    ],
)
def test_a_detector_fetches_nothing(config: dict[str, Any], key: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ArgumentError, match="nothing is downloaded") as caught:
        MODELS.build({"type": "TransformersDetector", "num_classes": 2, "config": {"model_type": "rt_detr", **config}})
    assert caught.value.key == key


def test_a_segmentor_fetches_nothing() -> None:
    pytest.importorskip("transformers")
    config = {"_attn_implementation": "someone/kernels"}
    with pytest.raises(ArgumentError, match="nothing is downloaded"):
        MODELS.build({"type": "SegFormer", "num_classes": 2, "config": config})
