from pathlib import Path
from typing import Any

import pytest

from footplate_openmmlab.mmengine.runner import FlexibleRunner
from tests.support import ToyModel, settings


@pytest.mark.parametrize("strategy", [None, {"type": "DDPStrategy"}])
def test_default_strategies_train(tmp_path: Path, strategy: Any) -> None:
    runner = FlexibleRunner(**{**settings(tmp_path), "model": ToyModel()}, strategy=strategy)
    runner.train()
    assert runner.iter == 12
