from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from footplate.distributed import check_same_parameters, check_same_weights, get_rank
from footplate.errors import RankError


def _model(classes: int = 2, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4, dtype=dtype), nn.Linear(4, classes, dtype=dtype))


def _named(**changes: Any) -> nn.Module:
    model = _model()
    for name, value in changes.items():
        model.register_parameter(name, value)
    return model


def error_of_other_parameters(kind: str) -> str:
    odd = get_rank() == 2
    models: dict[str, Callable[[], nn.Module]] = {
        "shape": lambda: _model(5 if odd else 2),
        "type": lambda: _model(dtype=torch.float64 if odd else torch.float32),
        "frozen": lambda: _model().requires_grad_(not odd),
        "missing": lambda: _named() if odd else _named(scale=nn.Parameter(torch.ones(()))),
        "same": _model,
    }
    try:
        check_same_parameters(models[kind]())
    except RankError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("shape", "'1.weight' is 5x4 float32 on rank 2, 2x4 float32 on rank 0"),
        ("type", "'0.weight' is 4x3 float64 on rank 2, 4x3 float32 on rank 0"),
        ("frozen", "'0.weight' is 4x3 float32, frozen on rank 2, 4x3 float32 on rank 0"),
        ("missing", "'scale' exists only on rank 0"),
        ("same", ""),
    ],
)
def test_different_parameters_raise_on_every_rank(on_ranks: Callable[..., list[Any]], kind: str, note: str) -> None:
    lines = ["the parameters on rank 2 differ from those on ranks 0, 1", f"  {note}"] if note else [""]
    for message in on_ranks(3, error_of_other_parameters, kind):
        assert message.split("\n")[:2] == lines


def error_of_other_weights(change: float, dtype: torch.dtype) -> str:
    model = _model(dtype=dtype)
    if get_rank():
        with torch.no_grad():
            model.get_parameter("1.weight")[1, 2] += change
    try:
        check_same_weights(model)
    except RankError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_different_weights_raise_on_every_rank(on_ranks: Callable[..., list[Any]], dtype: torch.dtype) -> None:
    for message in on_ranks(3, error_of_other_weights, 1e-2, dtype):
        assert message.split("\n")[:2] == [
            "the initial weights on rank 0 differ from those on ranks 1, 2",
            "  '1.weight' is the first parameter that differs",
        ]
    assert on_ranks(2, error_of_other_weights, 0.0, dtype) == ["", ""]


def test_consistency_checks_pass_on_one_process() -> None:
    check_same_parameters(_model())
    check_same_weights(_model())
