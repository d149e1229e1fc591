import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from footplate.distributed import get_rank, get_world_size, wrap_model
from footplate.distributed.wrappers import synchronize_batch_norm
from footplate.registry import MODELS
from footplate_vision.selfsup import ContrastiveHead, SelfSupDataSample
from footplate_vision.selfsup.selfsup_models import BaseSelfSup
from tests.footplate.distributed.conftest import OnRanks, on_ranks  # noqa: F401 - a fixture
from tests.footplate_vision.selfsup.model_configs import MAE_CFG

SIMCLR_CFG: dict[str, Any] = {
    "type": "SimCLR",
    "backbone": {"type": "SmallResNet", "in_channels": 1, "widths": (4, 8), "depths": (1, 1)},
    "neck": {"type": "NonLinearNeck", "in_channels": 8, "hid_channels": 8, "out_channels": 6},
    "head": {"type": "ContrastiveHead", "temperature": 0.3},
}


class Flat(BaseSelfSup):
    """Returns the pixels times two as features."""

    def extract_feat(self, inputs: Tensor) -> Tensor:
        return 2 * inputs.flatten(1)

    def loss(self, inputs: Sequence[Tensor], data_samples: Sequence[SelfSupDataSample] | None) -> dict[str, Tensor]:
        return {"loss": inputs[1].mean()}


def model(**parts: Any) -> Flat:
    return Flat(**{"backbone": nn.Identity(), "neck": nn.Identity(), "head": nn.Identity(), **parts})


def test_features_are_those_of_the_first_view() -> None:
    views = [torch.ones(2, 1, 2, 2, dtype=torch.float16), torch.zeros(2, 1, 2, 2)]
    assert torch.equal(model()(views), torch.full((2, 4), 2.0, dtype=torch.float16))
    given = [SelfSupDataSample(), SelfSupDataSample()]
    found = model()(views, given, mode="predict")
    assert found[0] is given[0]
    assert found[1].features.tolist() == [2.0] * 4
    assert found[1].features.dtype == torch.float32
    assert len(model()(views, mode="predict")) == 2


def nt_xent_by_a_loop(first: list[list[float]], second: list[list[float]], temperature: float) -> float:
    """Returns the loss, computed by loops over pairs of views."""
    views = first + second
    count, total = len(first), 0.0

    def similarity(a: int, b: int) -> float:
        dot = sum(x * y for x, y in zip(views[a], views[b], strict=True))
        return dot / math.hypot(*views[a]) / math.hypot(*views[b]) / temperature

    for view in range(2 * count):
        partner = (view + count) % (2 * count)
        others = sum(math.exp(similarity(view, each)) for each in range(2 * count) if each != view)
        total -= math.log(math.exp(similarity(view, partner)) / others)
    return total / (2 * count)


@pytest.mark.parametrize("seed", range(12))
def test_nt_xent_agrees_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, temperature = (int(rng.integers(2, 7)), int(rng.integers(1, 9))), float(rng.uniform(0.05, 1))
    first, second = rng.normal(size=shape), rng.normal(size=shape)
    if seed % 4 == 0:
        second = first.copy()
    found = ContrastiveHead(temperature)(torch.tensor(first), torch.tensor(second)).item()
    assert found == pytest.approx(nt_xent_by_a_loop(first.tolist(), second.tolist(), temperature), rel=1e-4, abs=1e-5)


def views(count: int = 6) -> list[torch.Tensor]:
    return list(torch.randn(2, count, 1, 12, 12, generator=torch.Generator().manual_seed(0)))


def test_the_loss_is_that_of_both_views_projections() -> None:
    model = MODELS.build(SIMCLR_CFG).eval()
    first, second = (model.neck(model.backbone(view)) for view in views())
    assert model(views(), mode="loss")["loss"].item() == pytest.approx(
        ContrastiveHead(0.3)(first, second).item(), rel=1e-4
    )


def train_on_shares() -> list[float]:
    """Trains on batches of different sizes. Returns the loss of each step and some weights."""
    torch.manual_seed(0)
    model: Any = wrap_model(synchronize_batch_norm(MODELS.build(SIMCLR_CFG), "torch"), None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    share = [view[get_rank() :: get_world_size()] for view in views(5)]
    found = []
    for _ in range(2):
        loss = model(share, mode="loss")["loss"]
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found + next(model.parameters()).flatten().tolist()  # type: ignore[no-any-return]


def test_loss_and_gradients_of_two_ranks_equal_one_process(on_ranks: OnRanks) -> None:  # noqa: F811
    expected = pytest.approx(train_on_shares(), abs=1e-3)
    assert on_ranks(2, train_on_shares) == [expected, expected]


def mae_loss_by_a_loop(picture: Any, guessed: Any, mask: Any, size: int, *, norm: bool) -> float:
    """Returns the loss, computed by a loop over the pixels of masked patches; `picture` is (C, H, W)."""
    per_row, errors = picture.shape[2] // size, []
    for number, hidden in enumerate(mask):
        if hidden:
            top, left = number // per_row * size, number % per_row * size
            patch = picture[:, top : top + size, left : left + size].ravel()
            if norm:
                patch = (patch - patch.mean()) / math.sqrt(patch.var() + 1e-6)
            errors.append(np.mean((guessed[number] - patch) ** 2))
    return float(np.mean(errors))


@pytest.mark.parametrize("seed", range(6))
def test_the_mae_loss_agrees_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, norm = int(rng.choice([1, 3])), bool(seed % 2)
    picture, guessed = rng.normal(size=(channels, 6, 6)), rng.normal(size=(9, 4 * channels))
    picture[:, :2, :2] = 0.5  # a patch of one colour
    mask = (rng.random(9) < 0.6).astype(np.float32)
    mask[rng.integers(9)] = 1
    head = MODELS.build({"type": "MAEPretrainHead", "patch_size": 2, "norm_pix": norm})
    given = (torch.tensor(each, dtype=torch.float32)[None] for each in (picture, guessed, mask))
    assert head(*given).item() == pytest.approx(mae_loss_by_a_loop(picture, guessed, mask, 2, norm=norm), rel=1e-4)


def test_predictable_patches_are_learned() -> None:
    torch.manual_seed(0)
    model = MODELS.build(MAE_CFG)
    model.init_weights()
    ramp = torch.linspace(-1, 1, 12).expand(8, 1, 12, 12) * torch.linspace(0.5, 1.5, 8).view(8, 1, 1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(120):
        loss = model([ramp], mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
