from pathlib import Path
from typing import Any

import pytest

from footplate.errors import ConfigError
from footplate_openmmlab.mmengine.runner import FlexibleRunner, Strategy
from tests.support import ToyModel, settings


@pytest.mark.parametrize("strategy", [None, {"type": "DDPStrategy"}])
def test_default_strategies_train(tmp_path: Path, strategy: Any) -> None:
    runner = FlexibleRunner(**{**settings(tmp_path), "model": ToyModel()}, strategy=strategy)
    runner.train()
    assert runner.iter == 12


@pytest.mark.parametrize("strategy", ["DeepSpeedStrategy", {"type": "FSDPStrategy"}, {"type": "OwnStrategy"}])
def test_other_strategies_are_refused_by_name(tmp_path: Path, strategy: Any) -> None:
    with pytest.raises(ConfigError, match="does not support 'strategy'") as caught:
        FlexibleRunner(**settings(tmp_path), strategy=strategy)
    assert caught.value.found == strategy
    with pytest.raises(ConfigError, match="does not support 'strategy'"):
        Strategy()
