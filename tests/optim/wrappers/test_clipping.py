"""Gradient clipping."""

from typing import Any

import pytest
import torch
from torch import nn

from footplate.errors import ArgumentError
from footplate.optim.wrappers.clipping import make_clip


def parameter(*gradient: float) -> nn.Parameter:
    made = nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient)
    return made


@pytest.mark.parametrize(
    ("cfg", "gradient", "norm"),
    [
        ({"max_norm": 1.0}, [0.6, 0.8], 5.0),
        ({"max_norm": 10}, [3.0, 4.0], 5.0),
        ({"type": "norm", "max_norm": 2.0, "norm_type": "inf"}, [1.5, 2.0], 4.0),
        ({"max_norm": 3.5, "norm_type": 1}, [1.5, 2.0], 7.0),
        ({"type": "value", "clip_value": 3.5}, [3.0, 3.5], None),
    ],
)
def test_clips(cfg: dict[str, Any], gradient: list[float], norm: float | None) -> None:
    each = parameter(3.0, 4.0)
    found = make_clip(cfg)([each])
    assert each.grad is not None
    assert each.grad.tolist() == pytest.approx(gradient, rel=1e-5)
    assert found is None if norm is None else float(found) == pytest.approx(norm)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cfg", "key", "suggestion"),
    [
        ({"max_norm": 1, "norm_type": "l2"}, "clip_grad.norm_type", None),
        ({"max_norm": 1, "norm_type": 0}, "clip_grad.norm_type", None),
        ({"max_norm": 1, "norm_typ": 2}, "clip_grad.norm_typ", "norm_type"),
        ({"type": "norms", "max_norm": 1}, "clip_grad.type", None),
        ({"norm_type": 2}, "clip_grad.max_norm", None),
        ({"max_norm": "1"}, "clip_grad.max_norm", None),
        ({"max_norm": -1}, "clip_grad.max_norm", None),
        ({"type": "value", "max_norm": 1}, "clip_grad.max_norm", None),
        (1.0, "clip_grad", None),
    ],
)
def test_settings_without_sense(cfg: Any, key: str, suggestion: str | None) -> None:
    with pytest.raises(ArgumentError) as caught:
        make_clip(cfg)
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)
