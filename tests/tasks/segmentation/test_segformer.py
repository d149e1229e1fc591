import sys
from typing import Any

import pytest
import torch

from footplate.data.structures import PixelData
from footplate.errors import ArgumentError, MissingExtraError
from footplate.registry import MODELS
from footplate.tasks.segmentation import SegDataSample

pytestmark = pytest.mark.filterwarnings("default:::transformers")
SMALL = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}


def build(**changes: Any) -> Any:
    return MODELS.build({"type": "SegFormer", "num_classes": 3, "config": SMALL, **changes})


def test_every_pixel_has_scores_and_learns() -> None:
    torch.manual_seed(0)
    model = build()
    assert model(torch.zeros(2, 3, 40, 56)).shape == (2, 3, 40, 56)
    sample = SegDataSample(metainfo={})
    sample.gt_sem_seg = PixelData(data=torch.arange(32 * 32).view(32, 32) // 512)
    inputs = torch.randn(1, 3, 32, 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        loss = model(inputs, [sample], mode="loss")["loss_ce"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(each.requires_grad for each in model.parameters())


def test_a_misspelt_key_of_its_config_is_named() -> None:
    with pytest.raises(ArgumentError) as caught:
        build(config={"hiden_sizes": [8]})
    assert (caught.value.key, caught.value.suggestion) == ("config.hiden_sizes", "hidden_sizes")


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"footplate\[transformers\]"):
        build()
