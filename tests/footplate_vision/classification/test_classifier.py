from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.registry import MODELS
from footplate_vision.classification import ClsDataSample

PARTS: dict[str, Any] = {
    "backbone": {"type": "SmallResNet", "in_channels": 1, "widths": (4, 8), "depths": (1, 1)},
    "neck": {"type": "GlobalAveragePooling"},
    "head": {"type": "LinearClsHead", "num_classes": 3, "in_channels": 8},
}
FEATURES = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def classifier(**arguments: Any) -> Any:
    return MODELS.build({"type": "ImageClassifier", **PARTS, **arguments})


def batch(count: int = 4) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randint(256, (1, 12, 12), generator=generator, dtype=torch.uint8) for _ in range(count)]
    return {"inputs": inputs, "data_samples": [ClsDataSample().set_gt_label(number % 3) for number in range(count)]}


def test_without_a_head_there_are_features() -> None:
    model = classifier(head=None)
    assert [each.shape for each in model(torch.zeros(2, 1, 12, 12))] == [(2, 4), (2, 8)]
    for mode in ("loss", "predict"):
        with pytest.raises(ArgumentError, match="has none") as caught:
            model(torch.zeros(2, 1, 12, 12), mode=mode)
        assert caught.value.key == "model.head"
    with pytest.raises(ArgumentError, match="set neck=None"):
        model.neck(torch.zeros(2, 4))


def test_flipped_images_can_be_averaged() -> None:
    model, pictures = classifier(flip_test=True).eval(), torch.randn(3, 1, 12, 12)
    scores = (model(pictures) + model(pictures.flip(-1))) / 2  # the head is linear
    assert not torch.allclose(scores, model(pictures), atol=1e-4)
    found = torch.stack([each.pred_score for each in model(pictures, mode="predict")])
    assert torch.allclose(found, scores.softmax(dim=1), atol=1e-6)


def head(**arguments: Any) -> Any:
    """Returns the features as scores."""
    built = MODELS.build({"type": "LinearClsHead", "num_classes": 3, "in_channels": 3, **arguments})
    with torch.no_grad():
        built.fc.weight.copy_(torch.eye(3))
        built.fc.bias.zero_()
    return built


def samples(*labels: Any) -> list[ClsDataSample]:
    return [ClsDataSample(metainfo={"img_path": f"{label}.png"}).set_gt_label(label) for label in labels]


def test_soft_truth_is_preferred() -> None:
    mixed = [each.set_gt_score([0.5, 0.5, 0]) for each in samples(0, 2)]
    losses = head(cal_acc=True, topk=(1, 2)).loss(FEATURES, mixed)
    expected = -FEATURES.log_softmax(1)[:, :2].mean()
    assert losses["loss"].item() == pytest.approx(expected.item())
    assert (losses["accuracy_top-1"].item(), losses["accuracy_top-2"].item()) == (50.0, 100.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "'gt_score' or 'gt_label'"),
        (samples(0, 3), "'3.png' contains class 3"),
        (samples(0, [1, 2]), "is 2, but this loss needs exactly one"),
        ([ClsDataSample(), ClsDataSample()], "'gt_label'"),
    ],
)
def test_the_loss_needs_one_class_of_every_image(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        head().loss(FEATURES, given)


def by_hand(scores: torch.Tensor, target: torch.Tensor, smoothing: float) -> float:
    """Returns the loss, computed by loops over images and classes."""
    total = 0.0
    for row, truth in zip(scores.log_softmax(dim=1), target, strict=True):
        for at, value in enumerate(row.tolist()):
            true = float(truth[at]) if truth.dim() else float(at == int(truth))
            total -= ((1 - smoothing) * true + smoothing / len(row)) * value
    return total / len(scores)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_agrees_with_a_plain_loop(smoothing: float, soft: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    loss = MODELS.build({"type": "LabelSmoothLoss", "label_smooth_val": smoothing, "loss_weight": 2.0})
    for _ in range(3):
        scores = torch.randn(5, 4, generator=generator)
        hard = torch.randint(4, (5,), generator=generator)
        target = torch.rand(5, 4, generator=generator).softmax(dim=1) if soft else hard
        assert loss(scores, target).item() == pytest.approx(2 * by_hand(scores, target, smoothing), rel=1e-5)


def test_classes_can_have_unequal_weights() -> None:
    loss = MODELS.build({"type": "LabelSmoothLoss", "label_smooth_val": 0.0, "class_weight": [1.0, 0.0]})
    scores = torch.tensor([[2.0, 0.0], [5.0, 0.0]])
    assert loss(scores, torch.tensor([0, 1])).item() == pytest.approx(by_hand(scores[:1], torch.tensor([0]), 0.0))
    head = {"type": "LinearClsHead", "in_channels": 4, "num_classes": 2, "loss": loss}
    assert MODELS.build(head).loss_module is loss
    with pytest.raises(ArgumentError, match="class_weight") as caught:
        MODELS.build({**head, "num_classes": 3})
    assert caught.value.key == "loss.class_weight"
