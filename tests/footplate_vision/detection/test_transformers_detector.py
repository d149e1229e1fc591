from typing import Any

import pytest
import torch
from torch import Tensor

from footplate.optim import build_optim_wrapper
from footplate_vision.detection import DetDataSample, TransformersDetector
from footplate_vision.structures import InstanceData

pytestmark = pytest.mark.filterwarnings("default")  # those of transformers are its own

_SMALL = {
    "d_model": 32,
    "num_queries": 8,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "decoder_layers": 1,
}
_BACKBONE = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
RT_DETR = {
    "model_type": "rt_detr",
    **_SMALL,
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [16, 24, 32],
    "decoder_in_channels": [32, 32, 32],
    "num_denoising": 0,
    "freeze_backbone_batch_norms": False,
    "backbone_config": {
        "model_type": "rt_detr_resnet",
        **_BACKBONE,
        "out_features": ["stage2", "stage3", "stage4"],
    },
}
DETR = {
    "model_type": "detr",
    **_SMALL,
    "encoder_layers": 1,
    "backbone_config": {"model_type": "resnet", **_BACKBONE, "out_features": ["stage4"]},
}
DEFORMABLE = {
    **DETR,
    "model_type": "deformable_detr",
    "decoder_layers": 2,  # of one alone transformers cannot tie the heads
    "num_feature_levels": 2,
    "backbone_config": {"model_type": "resnet", **_BACKBONE, "out_features": ["stage3", "stage4"]},
}


def model(config: Any, **arguments: Any) -> TransformersDetector:
    torch.manual_seed(0)
    return TransformersDetector(3, config=config, **arguments)


def pictures() -> Tensor:
    return torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(1))


def samples() -> list[DetDataSample]:
    truth = InstanceData(bboxes=torch.tensor([[2.0, 3, 30, 30], [33, 4, 60, 19]]), labels=torch.tensor([2, 0]))
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    return [DetDataSample(gt_instances=each, metainfo={"img_shape": (32, 64)}) for each in (truth, empty)]


@pytest.mark.parametrize("config", [RT_DETR, DETR, DEFORMABLE], ids=lambda each: str(each["model_type"]))
def test_models_of_the_family_train(config: Any) -> None:
    detector = model(config)
    optimizer = build_optim_wrapper(detector, {"optimizer": {"type": "AdamW", "lr": 0.001}})
    batch = {"inputs": pictures(), "data_samples": samples()}
    losses = [detector.train_step(batch, optimizer)["loss"].item() for _ in range(12)]
    assert sum(losses[-2:]) < sum(losses[:2])
    found = detector.eval().val_step(batch)
    assert all(len(each.pred_instances) for each in found)
    scores = found[0].pred_instances.scores
    assert torch.equal(scores, scores.sort(descending=True).values)


def test_only_the_total_loss_is_minimized() -> None:
    found = model(DETR)(pictures(), samples(), mode="loss")
    assert [name for name in found if "loss" in name] == ["loss"]
    assert {"bbox", "giou", "ce"} <= found.keys()
    assert not found["bbox"].requires_grad


@pytest.mark.parametrize("config", [RT_DETR, DETR], ids=lambda each: str(each["model_type"]))
def test_scores_and_boxes_are_those_of_the_image(config: Any) -> None:
    detector = model(config).eval()
    scores, boxes = detector(pictures())
    raw = detector.detector(pixel_values=pictures())
    assert (scores.shape, boxes.shape) == ((2, 8, 3), (2, 8, 4))
    x, y, width, height = raw.pred_boxes[1, 5].tolist()
    expected = [64 * (x - width / 2), 32 * (y - height / 2), 64 * (x + width / 2), 32 * (y + height / 2)]
    assert boxes[1, 5].tolist() == pytest.approx(expected, abs=1e-4)
    shared = raw.logits.shape[-1] == 4
    assert shared == (config is DETR)
    chance = raw.logits.softmax(-1)[..., :3] if shared else raw.logits.sigmoid()
    assert torch.equal(scores, chance)
