"""A run goes on from a checkpoint of mmcv 1.7.2, with the rates that mmcv itself goes on with."""

import json
from pathlib import Path
from typing import Any

import pytest

from footplate import Config, Runner
from footplate.checkpoint import save_checkpoint
from footplate.legacy import Hook
from tests.legacy.support import OldModelWithSteps, first

VECTORS = Path(__file__).parents[1] / "data" / "vectors" / "resumed.jsonl"
REFERENCE = [json.loads(line) for line in VECTORS.read_text().splitlines()]


class Rates(Hook):
    """Keeps the rates of each iteration; groups of equal settings are one."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.momenta: list[list[float]] = []

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.rates.append(sorted(set(runner.current_lr())))
        self.momenta.append(sorted(set(runner.current_momentum())))


@pytest.mark.parametrize("vector", REFERENCE, ids=lambda vector: vector["name"])
def test_the_rates_are_those_of_the_reference(tmp_path: Path, vector: dict[str, Any]) -> None:
    saved = tmp_path / "saved.pth"
    optimizer = {"state": {}, "param_groups": vector["param_groups"]}
    save_checkpoint(
        {"meta": vector["meta"], "state_dict": OldModelWithSteps().state_dict(), "optimizer": optimizer}, saved
    )
    watch = Rates()
    keys = ("runner", "optimizer", "lr_config", "momentum_config")
    changes = {key: vector[key] for key in keys if key in vector}
    runner = Runner.from_cfg(Config(first(tmp_path, resume_from=str(saved), custom_hooks=[watch], **changes)))
    runner.train()
    assert len(watch.rates) == runner.max_iters - vector["meta"]["iter"]
    for found, expected in zip(watch.rates, vector["rates"], strict=True):
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
    for found, expected in zip(watch.momenta, vector["momenta"], strict=True):
        assert found == pytest.approx(expected, rel=1e-12)


def test_the_vectors_hold_policies_and_configs_that_were_changed() -> None:
    names = [vector["name"] for vector in REFERENCE]
    assert len(names) == 29
    assert sum(name.endswith("@changed") for name in names) == 3
