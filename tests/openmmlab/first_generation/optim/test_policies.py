import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from footplate.errors import ArgumentError
from footplate.openmmlab.first_generation.optim.policies import (
    Cosine,
    LearningRateCycle,
    RestartedCosine,
    RunInfo,
    Steps,
)
from footplate.tools.simulation import simulate

RUN = RunInfo(full=10, unit=1, epoch_length=5)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Steps(0, run=RUN), "step"),
        (lambda: Cosine(run=RUN), "policy"),
        (lambda: RestartedCosine([1, 2], [1], eta_min=0.0, run=RUN), "periods"),
        (lambda: LearningRateCycle(1.0, total_steps=5, run=RUN), "total_steps"),
    ],
)
def test_invalid_settings_are_refused(make: Any, key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()
    assert caught.value.key == key


LINES = (Path(__file__).parents[3] / "data" / "vectors" / "host.jsonl").read_text().splitlines()


@pytest.mark.parametrize("vector", [json.loads(line) for line in LINES])
def test_simulated_rates_match_recorded_values(vector: dict[str, Any]) -> None:
    length = {key: vector[key] for key in ("max_epochs", "max_iters") if key in vector}
    kind = "EpochBasedRunner" if "max_epochs" in length else "IterBasedRunner"
    cfg: dict[str, Any] = {
        "optimizer": {"type": "SGD", "lr": 0.1},
        "lr_config": vector["lr_config"],
        "runner": {"type": kind, **length},
    }
    found = simulate(cfg, nn.Linear(1, 1), epoch_length=11, iters=vector["iters"])
    assert found["weight"]["lr"] == pytest.approx(vector["lr"], rel=1e-9, abs=1e-15)
