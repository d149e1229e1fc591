import math
from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError
from footplate.registry import MODELS
from footplate.tasks.selfsup import SelfSupDataSample, patchify

CFG: dict[str, Any] = {
    "type": "MAE",
    "backbone": {
        "type": "MAEViT",
        "img_size": 12,
        "patch_size": 3,
        "in_channels": 1,
        "embed_dims": 16,
        "num_layers": 1,
        "num_heads": 2,
        "mask_ratio": 0.5,
    },
    "neck": {
        "type": "MAEPretrainDecoder",
        "num_patches": 16,
        "patch_size": 3,
        "in_chans": 1,
        "embed_dim": 16,
        "decoder_embed_dim": 8,
        "decoder_num_heads": 2,
    },
    "head": {"type": "MAEPretrainHead", "patch_size": 3},
}


def by_hand(picture: Any, guessed: Any, mask: Any, size: int, *, norm: bool) -> float:
    """The loss from the pixels of the hidden patches one after the other; `picture` is (C, H, W)."""
    per_row, errors = picture.shape[2] // size, []
    for number, hidden in enumerate(mask):
        if hidden:
            top, left = number // per_row * size, number % per_row * size
            patch = picture[:, top : top + size, left : left + size].ravel()
            if norm:
                patch = (patch - patch.mean()) / math.sqrt(patch.var() + 1e-6)
            errors.append(np.mean((guessed[number] - patch) ** 2))
    return float(np.mean(errors))


@pytest.mark.parametrize("seed", range(40))
def test_the_loss_agrees_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, norm = int(rng.choice([1, 3])), bool(seed % 2)
    picture, guessed = rng.normal(size=(channels, 6, 6)), rng.normal(size=(9, 4 * channels))
    picture[:, :2, :2] = 0.5  # a patch of one colour
    mask = (rng.random(9) < 0.6).astype(np.float32)
    mask[rng.integers(9)] = 1
    head = MODELS.build({"type": "MAEPretrainHead", "patch_size": 2, "norm_pix": norm})
    given = (torch.tensor(each, dtype=torch.float32)[None] for each in (picture, guessed, mask))
    assert head(*given).item() == pytest.approx(by_hand(picture, guessed, mask, 2, norm=norm), rel=1e-4)


def test_seen_patches_do_not_enter_the_loss() -> None:
    head = MODELS.build({"type": "MAEPretrainHead", "patch_size": 3})
    pictures, mask = torch.randn(2, 1, 12, 12), torch.zeros(2, 16)
    mask[:, 5:9] = 1
    guessed = patchify(pictures, 3)
    guessed[:, :5] += 100
    assert head(pictures, guessed, mask).item() == 0
    guessed[:, 6] += 2
    assert head(pictures, guessed, mask).item() == pytest.approx(1.0)


def test_a_patch_that_is_hidden_is_guessed_from_its_place() -> None:
    model = MODELS.build(CFG)
    masked = model.backbone.forward_masked(torch.randn(4, 1, 12, 12))
    guessed = model.neck(masked)
    assert guessed.shape == (4, 16, 9)
    hidden = masked.mask[0].nonzero().flatten()
    assert not torch.allclose(guessed[0, hidden[0]], guessed[0, hidden[1]], atol=1e-5)


def test_reconstructions_have_the_form_of_pictures() -> None:
    model, pictures = MODELS.build(CFG).eval(), torch.randn(2, 1, 12, 12)
    torch.manual_seed(0)
    guessed, mask = model.reconstruct(pictures)
    torch.manual_seed(0)
    assert torch.allclose(patchify(guessed, 3), model.neck(model.backbone.forward_masked(pictures)))
    assert (guessed.shape, mask.sum().item()) == (pictures.shape, 16)


def test_features_and_samples() -> None:
    model, pictures = MODELS.build(CFG).eval(), torch.randn(2, 1, 12, 12)
    given = [SelfSupDataSample(), SelfSupDataSample()]
    found = model([pictures], given, mode="predict")
    assert found[1] is given[1]
    assert torch.equal(found[1].features, model([pictures])[1])
    with pytest.raises(ArgumentError, match="'tensor', 'loss' or 'predict'"):
        model([pictures], mode="guess")


def test_what_can_be_guessed_is_learned() -> None:
    torch.manual_seed(0)
    model = MODELS.build(CFG)
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


def test_patches_fill_a_square() -> None:
    with pytest.raises(ArgumentError, match="patches fill a square"):
        MODELS.build({**CFG["neck"], "num_patches": 15})
