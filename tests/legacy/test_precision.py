from typing import Any

import torch
from torch import Tensor, nn

from footplate.legacy import auto_fp16, force_fp32, wrap_fp16_model


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


def test_a_method_runs_in_mixed_precision_where_the_wrapper_says_so() -> None:
    head = Head()
    assert head(torch.ones(1, 4)).dtype is torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert head(torch.ones(1, 4)).dtype is torch.bfloat16


def test_a_method_is_kept_out_of_it_with_arguments_in_float32() -> None:
    half = torch.ones(1, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        scores, named, within = Head().loss([half, {"a": half}], weights=(half,), classes=torch.ones(1).long())
        assert torch.is_autocast_enabled("cpu")
    assert [scores[0].dtype, scores[1]["a"].dtype, named["weights"][0].dtype] == [torch.float32] * 3
    assert (named["classes"].dtype, within) == (torch.int64, torch.float32)


def test_without_mixed_precision_arguments_arrive_as_they_are() -> None:
    half = torch.ones(1, dtype=torch.bfloat16)
    scores, _, _ = Head().loss(half)
    assert scores is half


def test_a_wrapped_model_keeps_its_weights() -> None:
    head = Head()
    wrap_fp16_model(head)
    assert head.layer.weight.dtype is torch.float32
