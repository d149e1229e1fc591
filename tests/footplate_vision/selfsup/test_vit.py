from typing import Any

import pytest
import torch

from footplate.registry import MODELS

SMALL: dict[str, Any] = {"img_size": 12, "patch_size": 3, "in_channels": 1, "embed_dims": 8, "num_layers": 2}


def vit(**arguments: Any) -> Any:
    return MODELS.build({"type": "MAEViT", **SMALL, "num_heads": 2, **arguments})


@pytest.mark.parametrize(("ratio", "hidden"), [(0.75, 12), (0.6, 10)])
def test_the_mask_hides_an_exact_number_of_patches(ratio: float, hidden: int) -> None:
    masked = vit(mask_ratio=ratio).forward_masked(torch.randn(50, 1, 12, 12))
    assert masked.mask.sum(dim=1).tolist() == [hidden] * 50
    assert masked.tokens.shape == (50, 1 + 16 - hidden, 8)
    for row, seen in zip(masked.mask, masked.seen, strict=True):
        assert sorted(seen.tolist()) == (row == 0).nonzero().flatten().tolist()
    assert len({tuple(row.tolist()) for row in masked.mask}) > 5
    assert (masked.mask.mean(dim=0) - hidden / 16).abs().max() < 0.3  # every patch has its turn


def test_hidden_patches_have_no_influence() -> None:
    model, pictures = vit(mask_ratio=0.5).eval(), torch.randn(3, 1, 12, 12)
    torch.manual_seed(0)
    masked = model.forward_masked(pictures)
    pixels = masked.mask.view(3, 1, 4, 4).repeat_interleave(3, 2).repeat_interleave(3, 3)
    torch.manual_seed(0)
    again = model.forward_masked(pictures + 100 * pixels)
    assert torch.equal(masked.tokens, again.tokens)
