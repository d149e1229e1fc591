from typing import Any

import torch
from torch import Tensor, nn

from footplate.first_generation.adapters import auto_fp16, force_fp32, wrap_fp16_model


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    @auto_fp16(apply_to=("features",))
    def forward(self, features: Tensor) -> Tensor:
        return self.layer(features)  # type: ignore[no-any-return]

    @force_fp32(apply_to=("scores",))
    def loss(self, scores: Any, **named: Any) -> Any:
        return scores, named, self.layer(torch.ones(1, 4)).dtype


def test_auto_fp16_follows_autocast() -> None:
    head = Head()
    assert head(torch.ones(1, 4)).dtype is torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert head(torch.ones(1, 4)).dtype is torch.bfloat16


def test_force_fp32_disables_autocast_and_casts_arguments() -> None:
    half = torch.ones(1, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        scores, named, within = Head().loss([half, {"a": half}], weights=(half,), classes=torch.ones(1).long())
        assert torch.is_autocast_enabled("cpu")
    assert [scores[0].dtype, scores[1]["a"].dtype, named["weights"][0].dtype] == [torch.float32] * 3
    assert (named["classes"].dtype, within) == (torch.int64, torch.float32)


def test_force_fp32_has_no_effect_without_autocast() -> None:
    half = torch.ones(1, dtype=torch.bfloat16)
    scores, _, _ = Head().loss(half)
    assert scores is half


def test_wrap_fp16_model_keeps_float32_weights() -> None:
    head = Head()
    wrap_fp16_model(head)
    assert head.layer.weight.dtype is torch.float32
