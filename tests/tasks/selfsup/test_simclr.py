from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.optim import build_optim_wrapper
from footplate.registry import MODELS
from footplate.tasks.selfsup import SelfSupDataSample, nt_xent

CFG: dict[str, Any] = {
    "type": "SimCLR",
    "backbone": {"type": "SmallResNet", "in_channels": 1, "widths": (4, 8), "depths": (1, 1)},
    "neck": {"type": "NonLinearNeck", "in_channels": 8, "hid_channels": 8, "out_channels": 6},
    "head": {"type": "ContrastiveHead", "temperature": 0.3},
}


def views(count: int = 6) -> list[torch.Tensor]:
    return list(torch.randn(2, count, 1, 12, 12, generator=torch.Generator().manual_seed(0)))


def test_the_loss_is_that_of_both_views_projections() -> None:
    model = MODELS.build(CFG).eval()
    first, second = (model.neck(model.backbone(view)) for view in views())
    assert model(views(), mode="loss")["loss"].item() == pytest.approx(nt_xent(first, second, 0.3).item(), rel=1e-4)


def test_features_come_before_the_projection() -> None:
    model = MODELS.build(CFG).eval()
    features = model(views()[:1])
    assert torch.allclose(features, model.backbone(views()[0])[-1].mean(dim=(2, 3)))
    given = [SelfSupDataSample(metainfo={"part": "test"}) for _ in range(6)]
    found = model(views()[:1], given, mode="predict")
    assert found[0] is given[0]
    assert torch.equal(torch.stack([each.features for each in found]), features)
    assert len(model(views()[:1], mode="predict")) == 6


def test_steps_of_lars_bring_views_together() -> None:
    torch.manual_seed(0)
    model = MODELS.build(CFG)
    optimizer = {"type": "LARS", "lr": 1.0, "momentum": 0.9, "weight_decay": 1e-4, "eta": 0.02}
    wrapper = build_optim_wrapper(model, {"optimizer": optimizer})
    losses = [float(model.train_step({"inputs": views()}, wrapper)["loss"]) for _ in range(25)]
    assert losses[-1] < 0.5 * losses[0]


def test_what_cannot_be_answered_is_refused() -> None:
    model = MODELS.build(CFG)
    with pytest.raises(DataError, match="two views of a picture, not 1"):
        model(views()[:1], mode="loss")
    with pytest.raises(ArgumentError, match="'tensor', 'loss' or 'predict'"):
        model(views(), mode="train")
