"""Runs resumed from mmcv 1.7.2 checkpoints have the same learning rates and momenta as in mmcv."""

from pathlib import Path
from typing import Any

import pytest

from footplate import Config, Runner
from footplate.checkpoint import save_checkpoint
from footplate_openmmlab.first_generation.adapters import Hook
from tests.footplate_openmmlab.first_generation.adapters.support import OldModelWithSteps, old_config
from tests.support import json_lines

VECTORS = Path(__file__).parents[3] / "data" / "vectors" / "resumed.jsonl"
REFERENCE = json_lines(VECTORS)


class RateRecorder(Hook):
    """Records the distinct learning rates and momenta of each iteration."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.momenta: list[list[float]] = []

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.rates.append(sorted(set(runner.current_lr())))
        self.momenta.append(sorted(set(runner.current_momentum())))


@pytest.mark.parametrize("vector", REFERENCE, ids=lambda vector: vector["name"])
def test_rates_equal_those_of_mmcv(tmp_path: Path, vector: dict[str, Any]) -> None:
    saved = tmp_path / "saved.pth"
    optimizer = {"state": {}, "param_groups": vector["param_groups"]}
    save_checkpoint(
        {"meta": vector["meta"], "state_dict": OldModelWithSteps().state_dict(), "optimizer": optimizer}, saved
    )
    rates = RateRecorder()
    keys = ("runner", "optimizer", "lr_config", "momentum_config")
    changes = {key: vector[key] for key in keys if key in vector}
    runner = Runner.from_cfg(
        Config(old_config(tmp_path, resume_from=str(saved), custom_hooks=[rates], checkpoint_config=None, **changes))
    )
    runner.train()
    assert len(rates.rates) == runner.max_iters - vector["meta"]["iter"]
    for found, expected in zip(rates.rates, vector["rates"], strict=True):
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
    for found, expected in zip(rates.momenta, vector["momenta"], strict=True):
        assert found == pytest.approx(expected, rel=1e-12)
