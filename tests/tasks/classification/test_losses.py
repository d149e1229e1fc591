import pytest
import torch

from footplate.errors import ArgumentError
from footplate.registry import MODELS


def by_hand(scores: torch.Tensor, target: torch.Tensor, smoothing: float) -> float:
    """The loss from every picture and class one after the other."""
    total = 0.0
    for row, truth in zip(scores.log_softmax(dim=1), target, strict=True):
        for at, value in enumerate(row.tolist()):
            true = float(truth[at]) if truth.dim() else float(at == int(truth))
            total -= ((1 - smoothing) * true + smoothing / len(row)) * value
    return total / len(scores)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_agrees_with_a_plain_loop(smoothing: float, soft: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    loss = MODELS.build({"type": "LabelSmoothLoss", "label_smooth_val": smoothing, "loss_weight": 2.0})
    for _ in range(20):
        scores = torch.randn(5, 4, generator=generator)
        hard = torch.randint(4, (5,), generator=generator)
        target = torch.rand(5, 4, generator=generator).softmax(dim=1) if soft else hard
        assert loss(scores, target).item() == pytest.approx(2 * by_hand(scores, target, smoothing), rel=1e-5)


def test_classes_may_weigh_unequally() -> None:
    loss = MODELS.build({"type": "LabelSmoothLoss", "label_smooth_val": 0.0, "class_weight": [1.0, 0.0]})
    scores = torch.tensor([[2.0, 0.0], [5.0, 0.0]])
    assert loss(scores, torch.tensor([0, 1])).item() == pytest.approx(by_hand(scores[:1], torch.tensor([0]), 0.0))


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_share_is_wanted(value: float) -> None:
    with pytest.raises(ArgumentError, match="a share from 0 to 1"):
        MODELS.build({"type": "LabelSmoothLoss", "label_smooth_val": value})
