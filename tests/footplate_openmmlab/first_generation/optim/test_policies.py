import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from footplate.tools.simulation import simulate

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
