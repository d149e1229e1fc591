from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from footplate.distributed import get_rank, wrap_model
from footplate.errors import ArgumentError
from footplate.models import BaseModel
from footplate.optim import build_optim_wrapper


class Wide(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16, bias=False)
        nn.init.ones_(self.layer.weight)

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        return {"loss": self.layer(inputs).sum()}


def step(compression: Any) -> list[float]:
    """Returns the gradient of one weight: 1 + 2**-10 + 2**-13 on one rank, 0 on the other."""
    model: Any = wrap_model(Wide(), {"gradient_compression": compression} if compression else None)
    wrapper = build_optim_wrapper(model, {"optimizer": {"type": "SGD", "lr": 1.0}})
    model.train_step((torch.full((1, 16), (1 + 2**-10 + 2**-13) * (1 - get_rank())),), wrapper)
    return [float(1 - each) for each in model.module.layer.weight.detach()[0, :1]]


@pytest.mark.parametrize(
    ("compression", "expected"),
    [
        (None, 0.5 + 2**-11 + 2**-14),
        ("fp16", 0.5 + 2**-11),  # 11 bits of precision
        ({"type": "fp16"}, 0.5 + 2**-11),
        ({"type": "powerSGD", "matrix_approximation_rank": 1, "start_powerSGD_iter": 2}, 0.5 + 2**-11 + 2**-14),
    ],
)
def test_compressed_gradients(on_ranks: Callable[..., list[Any]], compression: Any, expected: float) -> None:
    assert on_ranks(2, step, compression) == [[expected]] * 2


def error_of(compression: Any) -> tuple[str, Any]:
    with pytest.raises(ArgumentError) as caught:
        step(compression)
    return caught.value.key, caught.value.suggestion


@pytest.mark.parametrize(
    ("compression", "key", "near"),
    [
        ("bf16", "gradient_compression", None),  # only supported by NCCL
        ("powerSDG", "gradient_compression", "powerSGD"),
        ({"type": "fp16", "rank": 1}, "gradient_compression.rank", None),
        (
            {"type": "powerSGD", "matrix_aproximation_rank": 1},
            "gradient_compression.matrix_aproximation_rank",
            "matrix_approximation_rank",
        ),
        ({"type": "powerSGD", "start_powerSGD_iter": 1}, "gradient_compression", None),
    ],
)
def test_invalid_compression_raises(
    on_ranks: Callable[..., list[Any]], compression: Any, key: str, near: str | None
) -> None:
    assert on_ranks(2, error_of, compression) == [(f"model_wrapper_cfg.{key}", near)] * 2
