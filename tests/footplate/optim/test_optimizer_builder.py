import inspect
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from footplate.errors import ArgumentError, BuildError, FootplateError, UnknownNameError
from footplate.optim.optimizer_builder import build_optimizer, register_extra_optimizers
from footplate.registry import OPTIMIZERS

TORCH_OPTIMIZERS = [
    name
    for name, found in vars(torch.optim).items()
    if inspect.isclass(found) and issubclass(found, Optimizer) and found is not Optimizer and name != "Muon"
]


def test_torch_optimizers_are_registered() -> None:
    assert [name for name in TORCH_OPTIMIZERS if OPTIMIZERS.get(name) is not getattr(torch.optim, name)] == []


def test_optimizers_of_pytorch_optimizer_are_registered() -> None:
    extra = pytest.importorskip("pytorch_optimizer", reason="the extra is not installed")
    assert register_extra_optimizers()
    names = [
        name
        for name, found in vars(extra).items()
        if inspect.isclass(found) and issubclass(found, Optimizer) and not inspect.isabstract(found)
    ]
    assert len(names) > 80
    assert [name for name in names if name not in OPTIMIZERS] == []
    assert OPTIMIZERS.get("LAMB") is extra.Lamb


def params() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2))]


def test_type_may_be_a_name_a_class_or_a_path() -> None:
    for kind in ("SGD", SGD, "torch.optim.SGD", "torch.optim.sgd.SGD"):
        built = build_optimizer({"type": kind, "lr": 0.5, "momentum": 0.9}, params())
        assert type(built) is SGD
        assert built.defaults["momentum"] == 0.9


@pytest.mark.parametrize(
    ("cfg", "error", "key", "suggestion"),
    [
        ({"type": "RMSpropp", "lr": 0.1}, UnknownNameError, "type", "RMSprop"),
        ({"type": "SGD", "lr": "0.1"}, ArgumentError, "lr", None),
        ({"type": "SGD", "lr": 0.1, "momentun": 0.9}, BuildError, "momentun", "momentum"),
        ({"type": "SGD", "lr": -0.1}, ArgumentError, "lr", None),
        ({"type": "torch.nn.Linear"}, BuildError, "type", None),
    ],
)
def test_invalid_sections_are_refused(cfg: Any, error: type[FootplateError], key: str, suggestion: str | None) -> None:
    with pytest.raises(error) as caught:
        build_optimizer(cfg, params())
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)
