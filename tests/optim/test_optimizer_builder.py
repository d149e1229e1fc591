import inspect
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from footplate.errors import ArgumentError, BuildError, FootplateError, UnknownNameError
from footplate.optim import LARS, Muon
from footplate.optim.optimizer_builder import build_optimizer, default_of, register_extra_optimizers
from footplate.registry import OPTIMIZERS

TORCH_OPTIMIZERS = [
    name
    for name, found in vars(torch.optim).items()
    if inspect.isclass(found) and issubclass(found, Optimizer) and found is not Optimizer and name != "Muon"
]


@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_torch_optimizers_are_registered(name: str) -> None:
    assert OPTIMIZERS.get(name) is getattr(torch.optim, name)


def test_muon_also_trains_parameters_that_are_no_matrices() -> None:
    assert OPTIMIZERS.get("Muon") is Muon


def test_optimizers_of_pytorch_optimizer_are_registered() -> None:
    extra = pytest.importorskip("pytorch_optimizer", reason="the extra is not installed")
    assert register_extra_optimizers()
    names = [
        name
        for name, found in vars(extra).items()
        if inspect.isclass(found) and issubclass(found, Optimizer) and not inspect.isabstract(found)
    ]
    assert len(names) > 100
    assert [name for name in names if name not in OPTIMIZERS] == []


def test_existing_names_are_not_replaced() -> None:
    register_extra_optimizers()
    assert OPTIMIZERS.get("LARS") is LARS
    assert OPTIMIZERS.get("Adafactor") is torch.optim.Adafactor


def params() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2))]


def test_type_may_be_a_name_a_class_or_a_path() -> None:
    for kind in ("SGD", SGD, "torch.optim.SGD", "torch.optim.sgd.SGD"):
        built = build_optimizer({"type": kind, "lr": 0.5, "momentum": 0.9}, params())
        assert type(built) is SGD
        assert built.defaults["momentum"] == 0.9


def test_registered_optimizer_is_built_by_name() -> None:
    class Signed(SGD):
        pass

    OPTIMIZERS.register_module(name="SignedForTest", module=Signed)
    assert type(build_optimizer({"type": "SignedForTest", "lr": 0.1}, params())) is Signed


def test_optimizer_of_pytorch_optimizer_steps() -> None:
    pytest.importorskip("pytorch_optimizer", reason="the extra is not installed")
    parameter = nn.Parameter(torch.ones(2))
    optimizer = build_optimizer({"type": "AdaBelief", "lr": 0.1}, [parameter])
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert parameter.max() < 1


@pytest.mark.parametrize(
    ("cfg", "error", "key", "suggestion"),
    [
        ({"type": "RMSpropp", "lr": 0.1}, UnknownNameError, "type", "RMSprop"),
        ({"type": "SGD", "lr": "0.1"}, ArgumentError, "lr", None),
        ({"type": "SGD", "lr": float("nan")}, ArgumentError, "lr", None),
        ({"type": "SGD", "lr": 0.1, "weight_decay": float("inf")}, ArgumentError, "weight_decay", None),
        ({"type": "SGD", "lr": 0.1, "weight_decay": [1]}, ArgumentError, "weight_decay", None),
        ({"type": "SGD", "lr": 0.1, "momentun": 0.9}, BuildError, "momentun", "momentum"),
        ({"type": "SGD", "lr": -0.1}, ArgumentError, "lr", None),
        ({"lr": 0.1}, BuildError, "", None),
        ("SGD", BuildError, "", None),
        ({"type": "torch.nn.Linear"}, BuildError, "type", None),
    ],
)
def test_invalid_sections_are_refused(cfg: Any, error: type[FootplateError], key: str, suggestion: str | None) -> None:
    with pytest.raises(error) as caught:
        build_optimizer(cfg, params())
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)


def test_misspelt_argument_of_pytorch_optimizer_is_refused() -> None:
    pytest.importorskip("pytorch_optimizer")
    with pytest.raises(BuildError, match="optimizer 'SOAP' takes no argument 'precondition_freqency'") as caught:
        build_optimizer({"type": "SOAP", "precondition_freqency": 3}, params())
    assert (caught.value.key, caught.value.suggestion) == ("precondition_freqency", "precondition_frequency")
    with pytest.raises(BuildError, match="'SOAP' takes no argument 'use_palm'"):
        build_optimizer({"type": "SOAP", "use_palm": True}, params())
    build_optimizer({"type": "ScheduleFreeAdamW", "use_palm": True}, params())
    build_optimizer({"type": "Lookahead", "optimizer": AdamW, "lr": 0.1}, params())


class Needing(SGD):
    def __init__(self, params: Any) -> None:
        raise ImportError("install einops")


def test_optimizer_that_needs_a_missing_package_is_refused() -> None:
    with pytest.raises(ArgumentError, match="^optimizer '.*Needing.*': install einops"):
        build_optimizer({"type": Needing}, params())


def test_unknown_name_suggests_the_extra_if_it_is_not_installed() -> None:
    code = (
        "import sys; sys.modules['pytorch_optimizer'] = None\n"
        "from footplate.optim.optimizer_builder import optimizer_class\n"
        "try: optimizer_class({'type': 'Nothing'})\n"
        "except KeyError as error: print(error)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "footplate[optimizers]" in output


@pytest.mark.parametrize(
    ("cfg", "field", "value"),
    [
        ({"type": "SGD", "lr": 0.5}, "lr", 0.5),
        ({"type": "AdamW"}, "lr", 1e-3),
        ({"type": AdamW}, "weight_decay", 0.01),
        ({"type": "Rprop"}, "weight_decay", None),
    ],
)
def test_default_of_reads_the_config_or_the_signature(cfg: dict[str, Any], field: str, value: float | None) -> None:
    assert default_of(cfg, field) == value


def test_built_optimizers_are_torch_optimizers() -> None:
    assert isinstance(build_optimizer({"type": "Adafactor"}, params()), Optimizer)


class Growing(SGD):
    """Takes an infinite argument as Prodigy and D-Adaptation do."""

    def __init__(self, params: Any, lr: float = 0.1, growth_rate: float = math.inf) -> None:
        super().__init__(params, lr)
        self.growth_rate = growth_rate


def test_an_argument_of_unknown_range_may_be_infinite() -> None:
    built = build_optimizer({"type": Growing, "growth_rate": math.inf}, params())
    assert built.growth_rate == math.inf  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("cfg", "key"),
    [
        ({"type": Growing, "growth_rate": math.nan}, "growth_rate"),
        ({"type": Growing, "lr": math.inf}, "lr"),
        ({"type": "Adam", "betas": [0.9, math.inf]}, "betas"),
        ({"type": "Adafactor", "eps": (None, math.inf)}, "eps"),
        ({"type": "Adadelta", "rho": math.inf}, "rho"),
    ],
)
def test_nan_and_infinity_are_refused_where_they_make_no_sense(cfg: Any, key: str) -> None:
    with pytest.raises(ArgumentError, match=f'"{key}" must ') as caught:
        build_optimizer(cfg, params())
    assert caught.value.key == key
