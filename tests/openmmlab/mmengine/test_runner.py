from pathlib import Path
from typing import Any

import pytest

from footplate.errors import ConfigError
from footplate.openmmlab.mmengine.runner import DDPStrategy, FlexibleRunner
from tests.support import ToyModel, settings

WRAPPER = {"type": "MMDistributedDataParallel", "find_unused_parameters": True}


@pytest.mark.parametrize(
    "strategy",
    [{"type": "DDPStrategy", "model_wrapper": WRAPPER, "sync_bn": "torch"}, DDPStrategy(model_wrapper=WRAPPER)],
)
def test_settings_of_a_strategy_become_those_of_the_runner(tmp_path: Path, strategy: Any) -> None:
    runner = FlexibleRunner(**{**settings(tmp_path), "model": ToyModel()}, strategy=strategy)
    assert runner.sections["model_wrapper_cfg"] == WRAPPER
    assert isinstance(runner.strategy, DDPStrategy)
    runner.train()
    assert runner.iter == 12


@pytest.mark.parametrize("strategy", ["DeepSpeedStrategy", {"type": "FSDPStrategy"}, {"type": "OwnStrategy"}])
def test_other_strategies_are_refused_by_name(tmp_path: Path, strategy: Any) -> None:
    name = strategy if isinstance(strategy, str) else strategy["type"]
    with pytest.raises(ConfigError, match="does not support 'strategy'") as caught:
        FlexibleRunner(**settings(tmp_path), strategy=strategy)
    assert caught.value.found == name
