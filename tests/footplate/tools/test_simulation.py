"""Simulated runs are compared with mmengine's figures and with real runs."""

import gzip
import itertools
import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from footplate.engine import Hook, Runner
from footplate.errors import ArgumentError
from footplate.models import BaseModel
from footplate.tools.simulation import simulate
from tests.modules import load_module

VECTORS = Path(__file__).parents[2] / "data" / "vectors"
_LONG = 500_000  # steps of groups, about a second
_REPEATED = 2000  # iterations of a schedule that an earlier vector shows to its end
_SCHEDULE = ("param_scheduler", "lr_config", "momentum_config", "runner", "train_cfg", "total_epochs", "total_iters")
SGD = {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}


def _vectors() -> list[Any]:
    found = []
    for generation in ("legacy", "modern"):
        schedules = set()
        with gzip.open(VECTORS / f"{generation}.jsonl.gz", "rt") as lines:
            for number, line in enumerate(lines):
                vector = json.loads(line)
                schedule = json.dumps([vector["epoch_len"], *(vector["config"].get(key) for key in _SCHEDULE)])
                if schedule in schedules:
                    _shorten(vector)
                schedules.add(schedule)
                name = f"{generation}-{number}-{vector['source']}-{vector['id']}"
                is_long = max(vector["iters"]) * (len(vector["group_sizes"]) + 3) > _LONG
                found.append(pytest.param(vector, id=name, marks=pytest.mark.slow if is_long else ()))
    return found


def _shorten(vector: dict[str, Any]) -> None:
    count = sum(iteration <= _REPEATED for iteration in vector["iters"])
    vector["iters"] = vector["iters"][:count]
    for trajectory in vector["trajectories"]:
        for field in {"lr", "momentum", "weight_decay"} & set(trajectory):
            trajectory[field] = trajectory[field][:count]


REFERENCE = _vectors()


def _toy() -> nn.Module:
    toy: nn.Module = load_module(VECTORS / "toy.py").Toy()
    return toy


def _expected(vector: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Any]]]:
    """Yields parameter names, fields and mmengine's values."""
    names = [name for name, *_ in vector["params"]]
    bounds = [0, *itertools.accumulate(vector["group_sizes"])]
    for trajectory in vector["trajectories"]:
        for group in trajectory["groups"]:
            for name in names[bounds[group] : bounds[group + 1]]:
                for field in {"lr", "momentum", "weight_decay"} & set(trajectory):
                    yield name, field, trajectory[field]


def _equal(found: float | None, wanted: float | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-15)


@pytest.mark.parametrize("vector", REFERENCE)
def test_values_equal_those_of_the_reference(vector: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "footplate")
    found = simulate(vector["config"], _toy(), epoch_length=vector["epoch_len"], iters=vector["iters"])
    compared = set()  # parameters of one group share their lists
    for name, field, wanted in _expected(vector):
        values = found[name][field]
        if (id(values), id(wanted)) in compared:
            continue
        compared.add((id(values), id(wanted)))
        wrong = [
            (iteration, value, right)
            for iteration, value, right in zip(vector["iters"], values, wanted, strict=True)
            if not _equal(value, right)
        ]
        assert not wrong, f"{name}, {field}: iteration, value, right value {wrong[:3]}"


def test_simulation_equals_a_real_run(tmp_path: Path) -> None:
    cfg: dict[str, Any] = {
        "optim_wrapper": {"optimizer": SGD, "paramwise_cfg": {"bias_lr_mult": 2.0}},
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 6},
            {"type": "MultiStepLR", "milestones": [1, 2], "by_epoch": True},
            {"type": "CosineAnnealingMomentum", "eta_min": 0.5, "by_epoch": True, "convert_to_iter_based": True},
            {"type": "LinearParamScheduler", "param_name": "weight_decay", "by_epoch": False, "end": 9},
        ],
        "train_cfg": {"by_epoch": True, "max_epochs": 3},
    }
    model, recorder = _Model(), _Recorder()
    found = simulate(cfg, model, epoch_length=4)
    data = [{"inputs": torch.ones(2, 2)} for _ in range(4)]
    Runner(model, str(tmp_path), train_dataloader=data, custom_hooks=[recorder], **cfg).train()
    assert set(found) == {"layer.weight", "layer.bias"}
    for name, fields in found.items():
        assert fields == recorder.rows[name]
    assert len(found["layer.bias"]["lr"]) == 12


class _Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> Any:
        return {"loss": self.layer(inputs).pow(2).mean()}


class _Recorder(Hook):
    """Records the parameter group of each parameter during iterations."""

    priority = "LOWEST"

    def before_train(self, runner: Any) -> None:
        names = {id(parameter): name for name, parameter in runner.model.named_parameters()}
        self.rows: dict[str, dict[str, list[Any]]] = {
            name: {field: [] for field in ("lr", "momentum", "weight_decay")} for name in names.values()
        }
        self._members = [
            (group, names[id(parameter)])
            for group in runner.optim_wrapper.param_groups
            for parameter in group["params"]
        ]

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        for group, name in self._members:
            for field, values in self.rows[name].items():
                values.append(group[field])


def test_several_optimizers() -> None:
    cfg = {
        "optim_wrapper": {
            "layer": {"optimizer": SGD},
            "head": {"optimizer": {"type": "SGD", "lr": 1.0}},
        },
        "param_scheduler": {"head": {"type": "StepLR", "step_size": 1, "by_epoch": False}},
        "train_cfg": {"max_iters": 2},
    }
    model = _Model()
    model.head = nn.Linear(1, 1)
    found = simulate(cfg, model)
    assert found["layer.weight"]["lr"] == [0.1, 0.1]
    assert found["head.bias"]["lr"] == [1.0, 0.1]


@pytest.mark.parametrize(
    ("train_cfg", "arguments", "words"),
    [
        ({"max_epochs": 2}, {}, "epoch_length"),
        (None, {}, "does not set the length"),
        ({"max_iters": 3}, {"iters": [3]}, "iters must be between 0 and 2"),
        ({"max_iters": 10**9}, {}, "schedules can be simulated for at most 10,000,000 iterations"),
    ],
)
def test_run_that_cannot_be_simulated_is_an_error(train_cfg: Any, arguments: dict[str, Any], words: str) -> None:
    cfg = {"optim_wrapper": {"optimizer": SGD}, "train_cfg": train_cfg}
    with pytest.raises(ArgumentError, match=words):
        simulate(cfg, nn.Linear(1, 1), **arguments)


def test_simulation_does_not_change_the_model() -> None:
    model = nn.Linear(2, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    simulate({"optim_wrapper": {"optimizer": SGD}, "train_cfg": {"max_iters": 3}}, model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.weight.grad is None
