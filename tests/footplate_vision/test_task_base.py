from collections.abc import Sequence
from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError, BuildError
from footplate.registry import MODELS
from footplate_vision.task_base import TaskModel, features_of


@pytest.mark.parametrize(
    ("config", "key", "message"),
    [
        ({"use_pretrained_backbone": True}, "config.use_pretrained_backbone", "without downloading"),
        ({"backbone": "someone/code"}, "config.backbone", "without downloading"),
        ({"attn_implementation": "someone/kernels"}, "config.attn_implementation", "may download kernels"),
        (
            {"backbone_config": {"auto_map": {"AutoBackbone": "a--b.C"}}},
            "config.backbone_config.auto_map",
            "without downloading",
        ),
    ],
)
def test_a_detector_fetches_nothing(config: dict[str, Any], key: str, message: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ArgumentError, match=message) as caught:
        MODELS.build({"type": "TransformersDetector", "num_classes": 2, "config": {"model_type": "rt_detr", **config}})
    assert caught.value.key == key


def test_a_segmentor_downloads_nothing() -> None:
    pytest.importorskip("transformers")
    config = {"_attn_implementation": "someone/kernels"}
    with pytest.raises(ArgumentError, match="may download kernels"):
        MODELS.build({"type": "SegFormer", "num_classes": 2, "config": config})


def test_features_in_the_output_of_a_transformers_model() -> None:
    tokens = {"last_hidden_state": torch.zeros(1, 4, 2)}
    assert features_of({**tokens, "pooler_output": 1}) == 1
    with pytest.raises(ArgumentError, match="the backbone returns tokens"):
        features_of(tokens)


@pytest.mark.parametrize(
    ("cfg", "key"),
    [
        ({"type": "ImageClassifier", "backbone": None}, "backbone"),
        ({"type": "SimCLR", "backbone": {"type": "SmallResNet"}, "neck": None, "head": None}, "neck"),
        ({"type": "LinearClsHead", "num_classes": 2, "in_channels": 2, "loss": "CrossEntropy"}, "loss"),
        ({"type": "RandomBatchAugment", "augments": [{"type": "Mixup", "alpha": 1}, 3]}, "augments[1]"),
    ],
)
def test_a_part_must_be_a_module_or_its_config(cfg: dict[str, Any], key: str) -> None:
    with pytest.raises(BuildError) as caught:
        MODELS.build(cfg)
    assert caught.value.key == key


class Echo(TaskModel):
    """Returns the name of the method that was called."""

    def outputs(self, inputs: Any) -> Any:
        return "outputs", inputs

    def loss(self, inputs: Any, data_samples: Sequence[Any] | None) -> Any:
        return {"loss": (inputs, data_samples)}

    def predict(self, inputs: Any, data_samples: Sequence[Any] | None) -> list[Any]:
        return [inputs, data_samples]


def test_images_that_are_not_stacked_are_an_error() -> None:
    mode: Any = "loss"
    pictures = [torch.zeros(3, 4, 4)] * 2
    for inputs in (pictures, [pictures, pictures]):
        with pytest.raises(ArgumentError, match="because no data preprocessor stacks them") as raised:
            Echo()(inputs, mode=mode)
    assert raised.value.notes == ("Set data_preprocessor=dict(type='ImgDataPreprocessor', mean=[...], std=[...]).",)
    for views in ([torch.zeros(2, 3, 4, 4)] * 2, [torch.zeros(2, 3, 8, 4, 4)] * 2):  # of images and of video clips
        assert Echo()(views, mode=mode) is not None  # stacked by the loader
    assert Echo(data_preprocessor={"type": "ImgDataPreprocessor"})(pictures) == ("outputs", pictures)
