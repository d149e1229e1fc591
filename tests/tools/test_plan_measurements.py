import dataclasses
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.config import Config
from footplate.errors import ArgumentError, FootplateError
from footplate.models import BaseModel
from footplate.optim import OptimWrapper
from footplate.tools import plan_measurements
from footplate.tools.plan_measurements import Cluster, Measurements, measure
from tests.support import Points, loader, settings


def config(folder: Path, **changes: Any) -> Config:
    return Config(settings(folder / "work", by_epoch=False, **changes))


def test_sizes_are_measured(tmp_path: Path) -> None:
    optim = {"optimizer": {"type": "AdamW", "lr": 0.1}}
    found = measure(config(tmp_path, optim_wrapper=optim, train_dataloader=loader(num_workers=3)), steps=4)
    numbers = 4 * 8 + 8 + 8 * 2 + 2
    assert (found.batch, found.workers) == (4, 3)
    assert (found.weights, found.gradients) == (4 * numbers, 4 * numbers)
    assert found.optimizer == 2 * 4 * numbers + 4 * 4  # two moments, and a count for each of four tensors
    assert found.largest_unit == 4 * numbers
    assert found.activations > 4 * 4 * 8
    assert found.checkpoint > found.weights
    assert (found.on_cores, found.threads) == (True, torch.get_num_threads())
    assert found.cores == len(os.sched_getaffinity(0))


def test_times_of_a_step_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    found = measure(config(tmp_path), steps=3)
    assert (found.forward, found.backward, found.update) == (1, 1, 1)
    assert (found.loading, found.spread) == (0.25, 0.0)


def test_spread_ignores_outliers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 50.0]

    def time_steps(*_: Any) -> tuple[Any, list[tuple[float, ...]]]:
        batch = {"inputs": torch.zeros(4, 4), "labels": torch.zeros(4, dtype=torch.long)}
        return batch, [(0.0, seconds, 0.0, 0.0) for seconds in (9.0, 9.0, 9.0, *times)]

    monkeypatch.setattr(plan_measurements, "_time_steps", time_steps)
    assert measure(config(tmp_path), steps=8).spread == pytest.approx((1.06 - 1.02) / 1.349 / 1.04)


@pytest.mark.parametrize("size", [40, 8])
def test_reading_and_steps_alternate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    order: list[str] = []

    def noted(word: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            order.append(word)
            return function(*args)

        return call

    monkeypatch.setattr(Points, "__getitem__", noted("read", Points.__getitem__))
    monkeypatch.setattr(OptimWrapper, "step", noted("step", OptimWrapper.step))
    sampler = {"type": "DefaultSampler", "shuffle": True}
    measure(config(tmp_path, train_dataloader=loader(size, sampler=sampler)), steps=2)
    several = min(size // 4, 5)
    assert order == [*["read"] * 4, "step"] * several + ["step"] * (5 - several)  # few batches are used again


def test_measuring_leaves_no_files(tmp_path: Path) -> None:
    before = set(os.listdir())
    measure(config(tmp_path), steps=2)
    assert (list(tmp_path.iterdir()), set(os.listdir())) == ([], before)


def test_one_step_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError):
        measure(config(tmp_path), steps=1)


def test_model_with_its_own_train_step_cannot_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(BaseModel, "_run_forward")
    with pytest.raises(FootplateError, match="has its own train_step"):
        measure(config(tmp_path), steps=2)


GIVEN: dict[str, Any] = {
    "batch": 16,
    "forward": 0.1,
    "backward": 0.2,
    "update": 0.02,
    "spread": 0.0,
    "loading": 0.001,
    "workers": 2,
    "weights": 100_000_000,
    "gradients": 100_000_000,
    "optimizer": 200_000_000,
    "activations": 1_000_000_000,
    "largest_unit": 10_000_000,
    "checkpoint": 300_000_000,
    "write_speed": 1e9,
}


def test_measurements_are_written_and_read(tmp_path: Path) -> None:
    parts = Measurements.from_dict({**GIVEN, "byte_seconds": None})
    parts.write(str(tmp_path / "parts.json"))
    assert Measurements.read(str(tmp_path / "parts.json")) == parts
    assert parts.step == pytest.approx(0.32)
    assert json.loads((tmp_path / "parts.json").read_text())["forward"] == 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forwrd": 1}, "unknown measurement 'forwrd'"),
        ({"forward": -1}, '"forward" must be a finite number above 0'),
        ({"forward": "0.1"}, '"forward" must be a finite number above 0'),
        ({"forward": None}, '"forward" must be a finite number above 0'),
        ({"forward": 0}, '"forward" must be a finite number above 0'),
        ({"backward": math.inf}, '"backward" must be a finite number of at least 0'),
        ({"byte_seconds": math.nan}, '"byte_seconds" must be a finite number of at least 0'),
        ({"weights": 10**400}, '"weights" must be a finite number of at least 0 and at most 1e'),
        ({"write_speed": 0}, '"write_speed" must be a finite number above 0'),
        ({"crowding": 0.5}, '"crowding" must be a finite number of at least 1'),
        ({"layer_share": 1.5}, '"layer_share" must be a finite number of at least 0 and at most 1'),
        ({"layer_weights": 100_000_001}, "'layer_weights' must be at most 'weights', 100000000, because"),
        ({"batch": 1.5}, "batch must be an integer of at least 1"),
        ({"batch": True}, "batch must be an integer of at least 1"),
        ({"cores": 0}, "cores must be an integer of at least 1"),
        ({"on_cores": 1}, "on_cores must be True or False"),
    ],
)
def test_invalid_measurements_are_rejected(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({**GIVEN, **changes}))
    with pytest.raises(ArgumentError, match=message) as caught:
        Measurements.read(str(path))
    assert (caught.value.key, str(caught.value.origin)) == (next(iter(changes)), str(path))


def test_missing_measurements_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="the measurement 'batch' is missing"):
        Measurements.from_dict({})
    with pytest.raises(ArgumentError, match="measurements must be a dict"):
        Measurements.from_dict([])
    (tmp_path / "no.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("no.json", "deep.json", "absent.json"):
        with pytest.raises(ArgumentError, match="cannot read .* as measurements"):
            Measurements.read(str(tmp_path / name))


def test_devices_of_all_nodes_are_counted() -> None:
    assert Cluster(nodes=128, per_node=8).devices == 1024
    assert [field.name for field in dataclasses.fields(Cluster)][:2] == ["nodes", "per_node"]
